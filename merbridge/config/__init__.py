"""The agent's settings, from flags, the environment and a YAML file."""

from merbridge.config.config import Config
from merbridge.config.load import ConfigError, add_arguments, load_config
from merbridge.config.reloading import Reloading
from merbridge.config.settings import SETTINGS, Setting, split_endpoint

__all__ = [
    "SETTINGS",
    "Config",
    "ConfigError",
    "Reloading",
    "Setting",
    "add_arguments",
    "load_config",
    "split_endpoint",
]
