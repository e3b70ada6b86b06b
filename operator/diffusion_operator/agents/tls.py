"""The agent API's certificate: an authority and a certificate of ours, kept in a Secret and renewed before they end.

Secret data: `tls.crt` and `tls.key` (the server's), `issuer.crt` and `issuer.key` (the authority that signs),
`next.crt` and `next.key` (its successor, for OVERLAP), `ca.crt` (all authorities that pods are to trust, the newest
first). A new authority is trusted for OVERLAP before it signs, so that it has reached the pods' ConfigMaps by then.
"""

import base64
import ipaddress
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE, SERVER_LIFE = timedelta(days=3650), timedelta(days=90)
OVERLAP = timedelta(days=7)
_BACKDATED = timedelta(minutes=10)
_ENTRIES = {"tls.crt", "tls.key", "issuer.crt", "issuer.key", "next.crt", "next.key"}


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, in PEM."""

    certificate: str
    key: str = field(repr=False)

    def ends_after(self, moment: datetime) -> bool:
        """Whether the certificate is still valid then."""
        return _certificate(self.certificate).not_valid_after_utc > moment

    def is_matched(self) -> bool:
        """Whether the key is that of the certificate. Raises what cryptography raises for what it cannot read."""
        return bool(_key(self.key).public_key() == _certificate(self.certificate).public_key())


@dataclass(frozen=True)
class AgentCertificates:
    """Everything in the Secret. `next` is an authority that is trusted already and signs later."""

    server: Pair
    issuer: Pair
    next: Pair | None = None

    @property
    def trusted(self) -> str:
        """PEM of the authorities that pods are to trust."""
        return "".join(pair.certificate for pair in (self.next, self.issuer) if pair is not None)

    def to_data(self) -> dict[str, str]:
        """As the Secret's `data`."""
        texts = {
            "tls.crt": self.server.certificate,
            "tls.key": self.server.key,
            "issuer.crt": self.issuer.certificate,
            "issuer.key": self.issuer.key,
            "ca.crt": self.trusted,
        }
        if self.next is not None:
            texts |= {"next.crt": self.next.certificate, "next.key": self.next.key}
        return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}

    @classmethod
    def from_data(cls, data: Mapping[str, str]) -> "AgentCertificates | None":
        """From a Secret's `data`; None where it holds no whole, readable and matching set."""
        try:
            texts = {name: base64.b64decode(data[name]).decode() for name in _ENTRIES & data.keys()}
            found = cls(
                server=Pair(texts["tls.crt"], texts["tls.key"]),
                issuer=Pair(texts["issuer.crt"], texts["issuer.key"]),
                next=Pair(texts["next.crt"], texts["next.key"]) if "next.crt" in texts else None,
            )
            is_whole = all(pair.is_matched() for pair in (found.server, found.issuer, found.next) if pair is not None)
            _certificate(found.server.certificate).verify_directly_issued_by(_certificate(found.issuer.certificate))
        except (KeyError, ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
            return None
        return found if is_whole else None

    def server_context(self) -> ssl.SSLContext:
        """TLS for the server side."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have new connections of a running server use this certificate."""
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
            both.write(self.server.certificate + self.server.key)
            both.flush()
            context.load_cert_chain(both.name)


def renewed(current: AgentCertificates | None, host: str, now: datetime) -> AgentCertificates:
    """What must stand in the Secret now for a server called `host`; `current` itself where nothing is due."""
    if current is None:
        issuer = _authority(now)
        return AgentCertificates(_server(host, issuer, now), issuer)
    issuer, following = current.issuer, current.next
    if following is None and not issuer.ends_after(now + AUTHORITY_LIFE / 10):
        following = _authority(now)
    if following is not None and (_age(following, now) > OVERLAP or not issuer.ends_after(now)):
        issuer, following = following, None
    server = current.server
    if issuer != current.issuer or not server.ends_after(now + SERVER_LIFE / 3) or not _is_for(server, host):
        server = _server(host, issuer, now)
    return AgentCertificates(server, issuer, following)


def _authority(now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"diffusion-operator agents {now:%Y-%m-%d}")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = _builder(name, name, key, now, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def _server(host: str, issuer: Pair, now: datetime) -> Pair:
    key, authority = ec.generate_private_key(ec.SECP256R1()), _certificate(issuer.certificate)
    issuer_key = _key(issuer.key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    names = x509.SubjectAlternativeName([_alternative_name(host), x509.DNSName("localhost")])
    builder = _builder(name, authority.subject, key, now, SERVER_LIFE).add_extension(names, critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UnsupportedAlgorithm("not a key of an elliptic curve")
    return key


def _age(pair: Pair, now: datetime) -> timedelta:
    return now - _certificate(pair.certificate).not_valid_before_utc


def _is_for(pair: Pair, host: str) -> bool:
    try:
        names = _certificate(pair.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return _alternative_name(host) in names


def _alternative_name(host: str) -> x509.GeneralName:
    """An operator outside the cluster may be reached by an address, and clients look for that among addresses only."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
