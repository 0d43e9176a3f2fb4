"""The Hugging Face hub: cached files first, one quick try of the network, clear errors."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from utils import MODEL_SIZES

PATIENCE = 5.0  # seconds for the hub's first answer


def check_reachable(name: str) -> None:
    """Raise ConnectionError, saying what to do, if the hub does not answer one short request.

    `hf_hub_download` would try six times over half a minute before it says so.
    """
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # the HTTP library's own classes differ between hub releases
        raise ConnectionError(
            f'"{name}" is no local folder, is not in the local cache ({constants.HF_HUB_CACHE}), '
            f"and the Hugging Face hub can't be reached ({type(error).__name__}); "
            "give a local folder, or connect to the network once so that it can be cached"
        ) from None


def fetcher(name: str) -> Callable[[str], Path | None]:
    """A function: file name in the hub's repository `name` -> local copy, or None if not there.

    It raises FileNotFoundError if there is no such repository and ConnectionError if the file is
    not cached and can't be fetched.
    """
    canonical = f"openai-community/{name}" if name in MODEL_SIZES else name

    def fetch(file: str) -> Path | None:
        try:
            for repository in dict.fromkeys((canonical, name)):
                cached = try_to_load_from_cache(repository, file)
                if cached is not None:  # a path, or a mark that the repository has no such file
                    return Path(cached) if isinstance(cached, str) else None
            check_reachable(name)
            return Path(hf_hub_download(canonical, file))
        except (RepositoryNotFoundError, HFValidationError):
            raise FileNotFoundError(
                f'"{name}" is neither a folder here nor a model on the Hugging Face hub; '
                "check the spelling"
            ) from None
        except LocalEntryNotFoundError as error:
            raise ConnectionError(f"{name}: {file} could not be fetched ({error})") from error
        except EntryNotFoundError:
            return None

    return fetch
