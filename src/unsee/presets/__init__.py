"""Presets: one YAML file each, the shape of `unsee.settings.Settings`."""
