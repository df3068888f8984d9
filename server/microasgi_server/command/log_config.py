"""Python's logging, configured by a file of the operator's instead of by us."""

import configparser
import json
import logging.config
from pathlib import Path

from microasgi_server.errors import StartupError
from microasgi_server.kinds import PATH
from microasgi_server.options import Option

LOG_CONFIG = Option("log_config", PATH, "configure logging by this file of Python's instead: .json for dictConfig, else ini for fileConfig")


def configure(path: str) -> None:
    """Configure logging as the file says. Loggers that it doesn't name go on as they are, unless it wants it otherwise.

    :raises StartupError: it can't be read, or isn't a configuration
    """
    try:
        text = Path(path).read_text()
        if Path(path).suffix == ".json":
            configuration = json.loads(text)
            if not isinstance(configuration, dict):
                raise TypeError("it is not an object")
            logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **configuration})
        else:
            parser = configparser.RawConfigParser()
            parser.read_string(text, path)
            logging.config.fileConfig(parser, disable_existing_loggers=False)
    except OSError as error:
        raise StartupError(f"{path}, which is to configure logging, can't be read: {error.strerror}") from error
    except KeyError as error:
        raise StartupError(f"{path}, which is to configure logging, has no section or name {error.args[0]!r}") from error
    except Exception as error:  # whatever a class that is named in there has to say
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        raise StartupError(f"{path} is no configuration of Python's logging: {error}{cause}") from error
