"""What Prometheus and Grafana are given: a dashboard and alert rules, made from the tables of figures in the code."""
