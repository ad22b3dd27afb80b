package catalog

import "kvol/internal/block"

const (
	noConnection = "Connection %s could not be found."

	selectConnections = "SELECT id, volume_id, connector, protocol, readonly, created_at FROM connections"
)

// InsertConnection adds a connection to a volume that exists. CreatedAt is Now
// unless it is given.
func (tx *Tx) InsertConnection(c block.Connection) error {
	if c.CreatedAt.IsZero() {
		c.CreatedAt = tx.Now
	}
	_, err := tx.exec(`INSERT INTO connections (id, volume_id, connector, protocol, readonly, created_at,
			initiator) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		c.ID, c.VolumeID, jsonText(c.Connector), c.Protocol, c.Readonly, micros(c.CreatedAt), orNull(c.Initiator()))
	return err
}

// Connection returns a connection.
func (tx *Tx) Connection(id string) (block.Connection, error) {
	c, err := scanConnection(tx.queryRow(selectConnections+" WHERE id = $1", id))
	return c, notFound(err, noConnection, id)
}

// Connections returns a volume's connections, the oldest first.
func (tx *Tx) Connections(volume block.VolumeID) ([]block.Connection, error) {
	return collect(tx, scanConnection, selectConnections+" WHERE volume_id = $1 ORDER BY created_at, id", volume)
}

const connectionsOf = selectConnections + " WHERE initiator = $1 ORDER BY created_at, id"

// ConnectionsOf returns the connections of an initiator, of all volumes and
// whatever their protocol is, the oldest first.
func (tx *Tx) ConnectionsOf(initiator string) ([]block.Connection, error) {
	return collect(tx, scanConnection, connectionsOf, initiator)
}

// DeleteConnection removes a connection.
func (tx *Tx) DeleteConnection(id string) error {
	res, err := tx.exec("DELETE FROM connections WHERE id = $1", id)
	return changed(res, err, noConnection, id)
}

func scanConnection(row scanner) (block.Connection, error) {
	var c block.Connection
	err := row.Scan(&c.ID, &c.VolumeID, asJSON(&c.Connector), &c.Protocol, &c.Readonly, asTime(&c.CreatedAt))
	return c, err
}
