"""The process: queue, reconciler, kopf bindings, health and metrics."""
