package catalog

import (
	"time"

	"kvol/internal/block"
)

// PeerDocument is what another zone last told about itself, as that zone wrote
// it.
type PeerDocument struct {
	Zone     block.Zone
	Received time.Time // on this zone's clock
	Text     []byte    // JSON
}

// PutPeerDocument keeps a zone's document in place of the one before; Received
// becomes the transaction's time.
func (tx *Tx) PutPeerDocument(zone block.Zone, text []byte) error {
	_, err := tx.exec(`INSERT INTO peer_documents (zone, received_at, document) VALUES ($1, $2, $3)
		ON CONFLICT (zone) DO UPDATE SET received_at = excluded.received_at, document = excluded.document`,
		string(zone), micros(tx.Now), string(text))
	return err
}

// PeerDocuments returns the documents of all zones that ever told one, by
// zone name.
func (tx *Tx) PeerDocuments() ([]PeerDocument, error) {
	return collect(tx, func(row scanner) (d PeerDocument, err error) {
		err = row.Scan(&d.Zone, asTime(&d.Received), &d.Text)
		return d, err
	}, `SELECT zone, received_at, document FROM peer_documents ORDER BY zone`)
}
