"""The run's log: plain lines on the screen, dated lines in info.log, as logger_config.json says."""

import json
import logging
import logging.config
from pathlib import Path

CONFIG_FILE = Path(__file__).with_name("logger_config.json")
IN_FILE_ONLY = 5  # below DEBUG: tracebacks, which say little to most people
LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


def open_log(log_dir: Path | None, verbosity: int = 2) -> logging.Logger:
    """Starts the log named "run".

    Args:
        log_dir: where info.log is (continued where it exists); None logs to the screen alone.
        verbosity: of the screen: 0 warnings, 1 progress, 2 details too. The file holds everything.
    """
    settings = json.loads(CONFIG_FILE.read_text(encoding="utf-8"))
    for handler in settings["handlers"].values():
        if "filename" in handler and log_dir is not None:
            handler["filename"] = str(log_dir / handler["filename"])
    settings["handlers"]["console"]["level"] = LEVELS[verbosity]
    if log_dir is None:
        settings["handlers"] = {"console": settings["handlers"]["console"]}
        settings["loggers"]["run"]["handlers"] = ["console"]
    close_log()
    logging.config.dictConfig(settings)
    return logging.getLogger("run")


def close_log() -> None:
    """Closes the file and forgets the screen; safe to call twice."""
    log = logging.getLogger("run")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
