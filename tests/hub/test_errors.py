"""Messages of the Hub without secrets."""

import pytest

from huidurep.hub.errors import explain_hub_error, without_secrets
from huidurep.hub.resolve import resolve_checkpoint

SECRET = "hf_abcDEF123secret"


@pytest.mark.parametrize(
    "text",
    [
        f"401 for {SECRET}",
        "failed: https://user:hush-secret@hub.example.com/api",
        "INPUT https:/user:hush-secret@host/x.json",  # as pathlib writes it
        "url https://s3.example.com/x?X-Amz-Signature=secret&X-Amz-Credential=a/secret&a=1",
        "url https://hub.example.com/api?token=secret",
        "Authorization: Bearer secret",
        "huidurep push out --token secret",
    ],
)
def test_secrets_are_masked(text):
    masked = without_secrets(text)
    assert "secret" not in masked and "***" in masked
    assert masked.split()[0] == text.split()[0]


@pytest.mark.parametrize("text", ["see https://huggingface.co/a/b@main", "hf_transfer and hf_hub_download", "a@b.org"])
def test_other_text_is_not_changed(text):
    assert without_secrets(text) == text


def test_errors_have_no_token(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://user:secret@mirror.example.com")
    cause = ConnectionError(f"cannot reach https://user:secret@mirror.example.com/api?token={SECRET}")
    message = explain_hub_error(cause, "owner/name")
    assert "secret" not in message and "mirror.example.com" in message
    with pytest.raises(OSError, match="owner/name") as raised:
        resolve_checkpoint("https://user:secret@huggingface.co/owner/name")
    assert "secret" not in str(raised.value)
