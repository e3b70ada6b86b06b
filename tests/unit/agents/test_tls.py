import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from diffusion_operator.agents.tls import AUTHORITY_LIFE, OVERLAP, SERVER_LIFE, AgentCertificates, renewed

HOST = "diffusion-operator-agents.system.svc"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_fresh_set_is_made_and_survives_the_secret() -> None:
    made = renewed(None, HOST, NOW)
    assert AgentCertificates.from_data(made.to_data()) == made
    assert made.trusted == made.issuer.certificate


def test_nothing_is_renewed_before_it_is_due() -> None:
    made = renewed(None, HOST, NOW)
    assert renewed(made, HOST, NOW + SERVER_LIFE / 2) is not None
    assert renewed(made, HOST, NOW + SERVER_LIFE / 2) == made


def test_the_certificate_is_renewed_a_month_before_it_ends_by_the_same_authority() -> None:
    made = renewed(None, HOST, NOW)
    later = renewed(made, HOST, NOW + SERVER_LIFE * 2 / 3 + DAY)
    assert later.server != made.server
    assert later.issuer == made.issuer


def test_another_host_name_gets_another_certificate() -> None:
    made = renewed(None, HOST, NOW)
    assert renewed(made, "elsewhere.svc", NOW).server != made.server


@pytest.mark.parametrize("host", ["10.0.0.7", "fd00::7"])
def test_an_address_stands_in_the_certificate_as_one(host: str) -> None:
    made = renewed(None, host, NOW)
    certificate = x509.load_pem_x509_certificate(made.server.certificate.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(host)]
    assert renewed(made, host, NOW) == made


def test_a_new_authority_is_trusted_before_it_signs() -> None:
    made = renewed(None, HOST, NOW)
    near = NOW + AUTHORITY_LIFE * 0.91
    announced = renewed(made, HOST, near)
    assert announced.issuer == made.issuer
    assert announced.next is not None
    assert announced.trusted == announced.next.certificate + made.issuer.certificate
    assert renewed(announced, HOST, near + DAY).issuer == made.issuer
    switched = renewed(announced, HOST, near + OVERLAP + DAY)
    assert switched.issuer == announced.next
    assert switched.next is None
    assert switched.server != announced.server


@pytest.mark.parametrize(
    "data", [{}, {"tls.crt": "eA=="}, dict.fromkeys(("tls.crt", "tls.key", "issuer.crt", "issuer.key"), "eA==")]
)
def test_a_secret_that_holds_no_set_is_replaced(data: dict[str, str]) -> None:
    assert AgentCertificates.from_data(data) is None


def damaged(**texts: str | None) -> dict[str, str]:
    made, other = renewed(None, HOST, NOW), renewed(None, HOST, NOW)
    data = {**made.to_data(), "next.crt": made.to_data()["issuer.crt"], "next.key": made.to_data()["issuer.key"]}
    assert AgentCertificates.from_data(data) is not None
    strange = {"other's": other.to_data()}
    return {**data, **{name: strange["other's"][name] if text is None else text for name, text in texts.items()}}


@pytest.mark.parametrize(
    "texts",
    [
        {"tls.crt": "//79"},
        {"tls.crt": "not base64"},
        {"tls.key": ""},
        {"tls.key": None},
        {"issuer.key": None},
        {"issuer.crt": None, "issuer.key": None},
        {"next.key": "//79"},
        {"next.crt": "eA=="},
    ],
    ids=lambda texts: "-".join(texts),
)
def test_a_damaged_secret_is_replaced(texts: dict[str, str | None]) -> None:
    assert AgentCertificates.from_data(damaged(**texts)) is None


def test_what_else_stands_in_the_secret_does_no_harm() -> None:
    made = renewed(None, HOST, NOW)
    assert AgentCertificates.from_data({**made.to_data(), "note": "//79"}) == made


def test_the_server_side_accepts_its_own_set() -> None:
    made = renewed(None, HOST, datetime.now(UTC))
    assert isinstance(made.server_context(), ssl.SSLContext)
