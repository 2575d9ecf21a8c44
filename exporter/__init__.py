"""The exporter: checkpoint -> bundle. Its door is `exporter.export.export`."""
