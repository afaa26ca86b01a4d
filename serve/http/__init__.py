"""The HTTP API: one router a module, over the `RenderService` in the application's state."""
