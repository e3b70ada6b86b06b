"""Certificates as Kubernetes reads them."""

import ipaddress
import stat
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from diffusion_local.certificates import Authority
from diffusion_local.kubeconfig import write_kubeconfig


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_client_is_its_user_and_its_groups(tmp_path: Path) -> None:
    files = Authority(tmp_path).client("node", "system:node:n1", ["system:nodes", "more"])
    subject = load(files.certificate).subject
    assert [part.value for part in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:n1"]
    groups = {part.value for part in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
    assert groups == {"system:nodes", "more"}
    usage = load(files.certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_serving_certificate_is_valid_for_its_names_and_addresses(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.server("api", ["kubernetes.default.svc"], ["10.96.0.1"])
    trust = PolicyBuilder().store(Store([load(authority.files.certificate)]))
    for name in (x509.DNSName("kubernetes.default.svc"), x509.IPAddress(ipaddress.ip_address("10.96.0.1"))):
        assert trust.build_server_verifier(name).verify(load(files.certificate), [])


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    first = Authority(tmp_path).files.certificate.read_bytes()
    assert Authority(tmp_path).files.certificate.read_bytes() == first


def test_keys_are_for_this_user_only(tmp_path: Path) -> None:
    files = Authority(tmp_path).client("a", "a")
    for path in (files.key, tmp_path / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_kubeconfig_carries_its_certificates_inside(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.client("a", "a")
    path = write_kubeconfig(
        tmp_path / "config",
        name="x",
        server="https://127.0.0.1:1",
        authority=authority.files.certificate,
        client=client,
    )
    content = yaml.safe_load(path.read_text())
    assert content["current-context"] == "x"
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert str(tmp_path) not in path.read_text()
