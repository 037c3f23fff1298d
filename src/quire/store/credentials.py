"""Credentials for S3 from profiles: `~/.aws/credentials` and `~/.aws/config`.

The client reads the environment, web identities, containers and instances itself, but no profiles. As in AWS's own
tools keys in the environment come first, then the profile, then where the machine runs. Files are read again every few
minutes, because the programs that keep short-lived keys there rewrite them.
"""

from __future__ import annotations

import configparser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from quire.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore.store import S3Credential

READ_AGAIN = timedelta(minutes=5)
_ELSEWHERE = {"role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file"}


def from_profile(environ: Mapping[str, str]) -> Callable[[], S3Credential] | None:
    """What hands out the profile's keys; None where the environment has keys or there is no profile with any.

    Raises:
        InvalidSetting: AWS_PROFILE names a profile that is not there, or whose keys only AWS's own library can fetch.
    """
    if environ.get("AWS_ACCESS_KEY_ID"):
        return None
    wanted = environ.get("AWS_PROFILE")
    profile = wanted or "default"
    found = _read(environ, profile)
    if "aws_access_key_id" in found and "aws_secret_access_key" in found:
        return lambda: _keys(_read(environ, profile))
    if _ELSEWHERE & set(found):
        return _from_boto3(profile)
    if wanted:
        raise InvalidSetting(
            f"expected keys in the AWS profile {profile!r}, found none", hint="see AWS_PROFILE and ~/.aws/credentials"
        )
    return None


def region_of(environ: Mapping[str, str]) -> str:
    """The profile's region; "" where it has none."""
    return _read(environ, environ.get("AWS_PROFILE") or "default").get("region", "")


def _read(environ: Mapping[str, str], profile: str) -> dict[str, str]:
    """All that both files say of a profile. Of a file that does not parse, nothing is told: it holds secrets."""
    parser = configparser.RawConfigParser()
    home = Path(environ.get("HOME") or "~").expanduser() / ".aws"
    files = (
        environ.get("AWS_CONFIG_FILE") or home / "config",
        environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials",
    )
    values: dict[str, str] = {}
    for file in files:
        parser.clear()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            raise InvalidSetting(f"{file} does not parse as AWS's files do", hint="see `aws configure`") from None
        for section in (f"profile {profile}", profile):
            if parser.has_section(section):
                values |= dict(parser.items(section))
    return values


def _keys(found: Mapping[str, str]) -> S3Credential:
    return {
        "access_key_id": found["aws_access_key_id"],
        "secret_access_key": found["aws_secret_access_key"],
        "token": found.get("aws_session_token"),
        "expires_at": datetime.now(UTC) + READ_AGAIN,
    }


def _from_boto3(profile: str) -> Callable[[], S3Credential]:
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise InvalidSetting(
            f"the AWS profile {profile!r} has no keys of its own: fetching them needs boto3", hint="pip install boto3"
        ) from None
    return Boto3CredentialProvider(boto3.Session(profile_name=profile))
