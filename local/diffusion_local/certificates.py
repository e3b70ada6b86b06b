"""The certificates of an embedded cluster: one authority, ECDSA P-256 keys, a year of validity.

Client certificates carry the user in CN and the groups in O, as Kubernetes reads them.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from diffusion_local.state import write_atomically

VALIDITY = dt.timedelta(days=365)
BACKDATE = dt.timedelta(minutes=5)
ADMIN_GROUP = "system:masters"


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """The cluster's certificate authority, kept in `folder` as ca.crt and ca.key and made there when missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = KeyPair(folder / "ca.crt", folder / "ca.key")
        if not self.files.certificate.exists():
            self._create()
        self._certificate = x509.load_pem_x509_certificate(self.files.certificate.read_bytes())
        key = serialization.load_pem_private_key(self.files.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    def client(self, file: str, user: str, groups: Sequence[str] = ()) -> KeyPair:
        """Issue a client certificate for `user` in `groups` as FILE.crt and FILE.key."""
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        return self._issue(file, x509.Name(subject), ExtendedKeyUsageOID.CLIENT_AUTH)

    def server(self, file: str, names: Sequence[str], addresses: Sequence[str]) -> KeyPair:
        """Issue a serving certificate for DNS `names` and IP `addresses` as FILE.crt and FILE.key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        return self._issue(file, subject, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def _create(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "diffusion-local")])
        certificate = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self.files, certificate, key)

    def _issue(
        self,
        file: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName] = (),
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        files = KeyPair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        _write(files, builder.sign(self._key, hashes.SHA256()), key)
        return files


def signing_key(folder: Path) -> KeyPair:
    """Make the key pair that signs service-account tokens: sa.pub (public key) and sa.key."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = KeyPair(folder / "sa.pub", folder / "sa.key")
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_atomically(files.certificate, public)
    write_atomically(files.key, _private_pem(key))
    return files


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + VALIDITY)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(files: KeyPair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_atomically(files.key, _private_pem(key))
    write_atomically(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
