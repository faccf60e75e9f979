import pytest

from apprentice.remote import azure


def test_the_v1_endpoint_takes_the_deployment_as_the_model():
    assert azure.chat_server("mine", None).path == "/openai/v1/chat/completions"
    assert azure.responses_server().path == "/openai/v1/responses"


def test_older_resources_have_the_deployment_in_the_path():
    server = azure.chat_server("my deployment/1", "2024-10-21")
    assert server.path == "/openai/deployments/my%20deployment%2F1/chat/completions?api-version=2024-10-21"
    assert server.key_header == "api-key"


@pytest.mark.parametrize("path", ["", "/", "/openai", "/openai/v1", "/openai/v1/"])
def test_an_address_may_be_written_with_or_without_the_path(path):
    assert azure.endpoint("https://mine.openai.azure.com" + path) == "https://mine.openai.azure.com"
