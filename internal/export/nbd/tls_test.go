package nbd_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	client "kvol/internal/client/nbd"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

// authority makes certificates for the tests.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "kvol test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	pair := a.sign(template)
	a.key = pair.PrivateKey.(*ecdsa.PrivateKey)
	a.cert = pair.Leaf
	a.pool.AddCert(a.cert)
	return a
}

// sign makes a key and a certificate for it; the first one signs itself.
func (a *authority) sign(c *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(int64(len(c.Subject.CommonName)))
	c.NotBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	c.NotAfter = time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pair(name string, use x509.ExtKeyUsage) tls.Certificate {
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
	})
}

// server is a server's configuration; with clients it wants their certificates.
func (a *authority) server(clients bool) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{a.pair("localhost", x509.ExtKeyUsageServerAuth)}}
	if clients {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
	}
	return c
}

// directory writes what libnbd and qemu want of a client: ca-cert.pem,
// client-cert.pem and client-key.pem.
func (a *authority) directory() string {
	a.t.Helper()
	dir := a.t.TempDir()
	pair := a.pair("client", x509.ExtKeyUsageClientAuth)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{
		"ca-cert.pem":     {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"client-cert.pem": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		"client-key.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return dir
}

func serveTCP(t testing.TB, c nbd.Config) (address string, stop func()) {
	t.Helper()
	l := exporttest.Listen(t)
	return l.Addr().String(), serveOn(t, c, l)
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	s := newShelf(t, testSize)
	address, _ := serveTCP(t, nbd.Config{Exports: s, TLS: a.server(true), RequireTLS: true})
	mine := &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.pair("client", x509.ExtKeyUsageClientAuth)}}
	c, err := client.Dial(t.Context(), "nbds://"+address+"/vol", client.Options{TLS: mine})
	if err != nil {
		t.Fatal(err)
	}
	p := exporttest.Fill(1, 3<<20)
	if _, err := c.WriteAt(p, 12345); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(p))
	if _, err := c.ReadAt(got, 12345); err != nil || !bytes.Equal(got, p) {
		t.Fatalf("read through TLS: %v", err)
	}
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	other := newAuthority(t)
	strangers := []tls.Certificate{other.pair("client", x509.ExtKeyUsageClientAuth)}
	for name, o := range map[string]client.Options{
		"in the clear":               {},
		"without a certificate":      {TLS: &tls.Config{RootCAs: a.pool}},
		"a certificate of strangers": {TLS: &tls.Config{RootCAs: a.pool, Certificates: strangers}},
		"a server not trusted":       {TLS: &tls.Config{RootCAs: other.pool, Certificates: mine.Certificates}},
	} {
		if c, err := client.Dial(t.Context(), "nbd://"+address+"/vol", o); err == nil {
			c.Close()
			t.Errorf("%s: the server let it in", name)
		}
	}
}

func TestTLSOptions(t *testing.T) {
	a := newAuthority(t)
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize), TLS: a.server(false), RequireTLS: true})
	w := dial(t, path)
	w.greet(3)
	for _, opt := range []int{3, 6, 7, 8, 9, 10, 99} {
		w.option(opt, named("vol"), uint16(0))
		w.answer(opt, errTLSReqd)
	}
	w.option(1, "vol")
	w.gone()

	w = dial(t, path)
	w.greet(3)
	w.option(5)
	w.answer(5, 1)
	secure := tls.Client(w.Conn, &tls.Config{RootCAs: a.pool, ServerName: "localhost"})
	w = &wire{t, secure}
	w.option(5) // twice
	w.answer(5, errInvalid)
	w.option(10, named("vol"), 0) // structured replies were not agreed on in here
	w.answer(10, errInvalid)
	w.option(7, named("vol"), uint16(0))
	w.answer(7, 3)
	w.answer(7, 1)
	w.request(2, 0, 0, 0)
	w.gone()
}

// TestTLSForgetsWhatWasSaidInTheClear: structured replies, a context and an
// export chosen before TLS don't hold in it, and bytes sent along with STARTTLS
// are no options.
func TestTLSForgetsWhatWasSaidInTheClear(t *testing.T) {
	a := newAuthority(t)
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s, TLS: a.server(false)})
	w := dial(t, path)
	w.greet(3)
	w.option(8)
	w.answer(8, 1)
	w.option(10, named("vol"), 1, named("base:allocation"))
	w.answer(10, 4)
	w.answer(10, 1)
	w.option(5)
	w.answer(5, 1)
	w = &wire{t, tls.Client(w.Conn, &tls.Config{RootCAs: a.pool, ServerName: "localhost"})}
	w.option(7, named("vol"), uint16(0))
	w.answer(7, 3)
	w.answer(7, 1)
	w.request(7, 0, 0, 4096)
	w.plain(7, 22)
	w.request(0, 0, 0, 1)
	w.plain(0, 0)
	w.read(1)

	w = dial(t, path)
	w.greet(3)
	w.send(optMagic, 5, 0, optMagic, 7, 9, named("vol"), uint16(0))
	w.answer(5, 1)
	w.gone() // and no answer to the smuggled option
}
