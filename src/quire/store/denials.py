"""What is wrong with the credentials, by what the client and the service say: for every way of it, and the next step.

The texts are those of obstore 0.12 (what `object_store` says before it asks) and of S3's error codes
(https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html); Google's and Azure's come as bare statuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Where each scheme's credentials come from.
_WHERE = {
    "s3": "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, else AWS_PROFILE and ~/.aws, else the container or instance; "
    "with AWS_SKIP_SIGNATURE there are none",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, else what `gcloud auth application-default login` left, else the instance",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, else AZURE_CLIENT_ID..., else the instance",
}


@dataclass(frozen=True, slots=True)
class Denial:
    """`problem`: in a sentence with the store. `passing`: it may be otherwise in a moment, so it is worth a wait."""

    problem: str
    step: str
    passing: bool = False

    def hint(self, scheme: str) -> str:
        """The next step, and where credentials are taken from."""
        return f"{self.step}; credentials come from {_WHERE.get(scheme, 'the rights on that directory')}"


REFUSED = Denial("the store refuses access", "check whose credentials these are, and what they allow on this prefix")
_KNOWN = (
    (
        r"Missing (SecretAccessKey|AccessKeyId)",
        Denial("of the access key and its secret one is missing", "set both, or neither"),
    ),
    (
        r"Failed to read [^\n]{0,500}token file",
        Denial("the file that the credentials are fetched with cannot be read", "check AWS_*_TOKEN_FILE"),
    ),
    (
        # Where the client asks for credentials when it was given none.
        r"169\.254\.|/latest/(api|meta-data)|computeMetadata|token request|CONTAINER_CREDENTIALS|AssumeRole",
        Denial("no credentials found in the environment, a profile or the instance", "give it some", passing=True),
    ),
    (
        r"ExpiredToken|TokenRefreshRequired|RequestExpired|token (has|is) expired",
        Denial("the credentials have expired", "sign in again (`aws sso login`), or renew AWS_SESSION_TOKEN"),
    ),
    (
        r"InvalidToken|InvalidClientTokenId|UnrecognizedClient",
        Denial("the session token does not hold", "set or remove AWS_SESSION_TOKEN: it goes with one access key"),
    ),
    (
        r"InvalidAccessKeyId",
        Denial("the store does not know the access key", "check the key and store.endpoint"),
    ),
    (r"SignatureDoesNotMatch", Denial("the secret does not belong to the access key", "check the secret")),
    (
        r"RequestTimeTooSkewed",
        Denial("this machine's clock is off, so that no credentials hold", "set the clock"),
    ),
    (
        r"AuthorizationHeaderMalformed|PermanentRedirect|incorrectly configured region|IllegalLocationConstraint",
        Denial("the bucket is in another region", "set AWS_REGION, or region in the profile, to the bucket's"),
    ),
    (r"status code: 40[13]\b", REFUSED),
)


def denial_of(told: str) -> Denial | None:
    """What `told` says of the credentials; None if it is about something else."""
    return next((denial for pattern, denial in _KNOWN if re.search(pattern, told)), None)
