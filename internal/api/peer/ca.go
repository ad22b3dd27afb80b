package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"time"

	"kvol/internal/block"
)

// uriScheme begins the URI that names a zone in its certificate:
// "kvol-zone:mitaka1".
const uriScheme = "kvol-zone"

const (
	caLife   = 10 * 365 * 24 * time.Hour
	certLife = 2 * 365 * 24 * time.Hour
	skew     = time.Hour // that clocks of zones may differ
)

// CA is a small certificate authority for the zones of one installation. It
// serves demos and installations without one of their own.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Issued is a certificate with its key, both as PEM.
type Issued struct {
	Cert, Key []byte
}

// NewCA makes an authority with a new key.
func NewCA(now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "kvol zones"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: now.Add(-skew), NotAfter: now.Add(caLife),
	}
	cert, err := sign(template, template, &key.PublicKey, key)
	return &CA{cert, key}, err
}

// PEM is the authority's certificate, which all zones trust, and its key, which
// none of them needs.
func (ca *CA) PEM() (Issued, error) { return encode(ca.cert, ca.key) }

// ParseCA reads what PEM wrote.
func ParseCA(p Issued) (*CA, error) {
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("peer: this is no certificate authority of kvol's")
	}
	return &CA{pair.Leaf, key}, nil
}

// IssueZone makes the certificate of a zone, for both ends of connections. It
// names the zone as common name, as DNS name and as URI; hosts are further
// names and addresses of its listener.
func (ca *CA) IssueZone(zone block.Zone, now time.Time, hosts ...string) (Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issued{}, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: string(zone)}, DNSNames: []string{string(zone)},
		URIs:        []*url.URL{{Scheme: uriScheme, Opaque: string(zone)}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   now.Add(-skew), NotAfter: now.Add(certLife), BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	cert, err := sign(template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return Issued{}, err
	}
	return encode(cert, key)
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (
	*x509.Certificate, error,
) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func encode(cert *x509.Certificate, key *ecdsa.PrivateKey) (Issued, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Issued{}, err
	}
	return Issued{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}, nil
}
