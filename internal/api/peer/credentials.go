package peer

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"kvol/internal/block"
)

// Credentials are a zone's certificate and whom it trusts.
type Credentials struct {
	certificate tls.Certificate
	roots       *x509.CertPool
}

// NewCredentials reads a zone's certificate and key, and the certificates of
// the authorities that sign those of other zones, all as PEM.
func NewCredentials(zone Issued, authorities []byte) (Credentials, error) {
	pair, err := tls.X509KeyPair(zone.Cert, zone.Key)
	if err != nil {
		return Credentials{}, fmt.Errorf("the zone's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authorities) {
		return Credentials{}, fmt.Errorf("the authority's file holds no certificate")
	}
	return Credentials{pair, roots}, nil
}

// LoadCredentials is NewCredentials for files.
func LoadCredentials(cert, key, ca string) (Credentials, error) {
	var text [3][]byte
	for i, name := range []string{cert, key, ca} {
		var err error
		if text[i], err = os.ReadFile(name); err != nil {
			return Credentials{}, err
		}
	}
	return NewCredentials(Issued{Cert: text[0], Key: text[1]}, text[2])
}

// Zone is the zone that the certificate names.
func (c Credentials) Zone() block.Zone {
	zone, _ := zoneOf(c.certificate.Leaf)
	return zone
}

// Server is the configuration of a zone's peer listener: mutual TLS 1.3, and no
// HTTP/2, whose connections can't be upgraded.
func (c Credentials) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.roots, NextProtos: []string{"http/1.1"},
	}
}

// Client is the configuration for connections to a zone. It takes only the
// certificate that names that zone, at whatever address.
func (c Credentials) Client(zone block.Zone) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.certificate}, RootCAs: c.roots,
		ServerName: string(zone), NextProtos: []string{"http/1.1"},
		// The name was checked as a DNS name; the zone that the certificate is for
		// must be the same.
		VerifyConnection: func(state tls.ConnectionState) error {
			if got, ok := zoneOf(state.PeerCertificates[0]); !ok || got != zone {
				return fmt.Errorf("the certificate is that of zone %q, not %q", got, zone)
			}
			return nil
		},
	}
}

// zoneOf returns the zone that a certificate is for: that of its URI, or its
// common name where it has no such URI.
func zoneOf(cert *x509.Certificate) (block.Zone, bool) {
	for _, u := range cert.URIs {
		if u.Scheme == uriScheme {
			return block.Zone(u.Opaque), u.Opaque != ""
		}
	}
	return block.Zone(cert.Subject.CommonName), cert.Subject.CommonName != ""
}
