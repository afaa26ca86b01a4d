"""What is measured on videos: lips, sync, seams, reconstruction, controls, identity; and the tables of them."""
