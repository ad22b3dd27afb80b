package catalog

import (
	"strconv"

	"kvol/internal/block"
)

const (
	noMessage      = "Message %s could not be found."
	messageColumns = `id, project_id, request_id, resource_type, resource_uuid, action_id, detail_id, event_id,
		message_level, created_at, expires_at`

	// maxMessages is how many messages a project has at most; older ones make
	// room for new ones.
	maxMessages = 10_000
	// messageSweep is how many messages a new one takes along whose time is over.
	messageSweep = 100
)

// InsertMessage adds a message, and removes some of those whose time is over,
// or that are too many, so that they need no sweeper. CreatedAt is Now.
func (tx *Tx) InsertMessage(m block.Message) error {
	_, err := tx.exec("INSERT INTO messages ("+messageColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		m.ID, m.Project, m.RequestID, m.ResourceType, m.ResourceID, m.Action, m.Detail, m.EventID, m.Level,
		micros(tx.Now), micros(m.ExpiresAt))
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE expires_at <= $1
		ORDER BY expires_at LIMIT $2)`, micros(tx.Now), messageSweep)
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE project_id = $1
		ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3)`, m.Project, messageSweep, maxMessages)
	return err
}

// Message returns a message whose time is not over.
func (tx *Tx) Message(id string) (block.Message, error) {
	m, err := scanMessage(tx.queryRow("SELECT "+messageColumns+" FROM messages WHERE id = $1 AND expires_at > $2",
		id, micros(tx.Now)))
	return m, notFound(err, noMessage, id)
}

// DeleteMessage removes a message.
func (tx *Tx) DeleteMessage(id string) error {
	res, err := tx.exec("DELETE FROM messages WHERE id = $1", id)
	return changed(res, err, noMessage, id)
}

var messageList = lister{table: "messages", missing: noMessage, columns: map[string]listColumn{
	"id": {sql: "messages.id"}, "project_id": {sql: "messages.project_id"}, "event_id": {sql: "messages.event_id"},
	"request_id": {sql: "messages.request_id"}, "resource_type": {sql: "messages.resource_type"},
	"resource_uuid": {sql: "messages.resource_uuid"}, "message_level": {sql: "messages.message_level"},
	"action_id": {sql: "messages.action_id"}, "detail_id": {sql: "messages.detail_id"},
	"created_at":       {sql: "messages.created_at", kind: timeColumn},
	"expires_at":       {sql: "messages.expires_at", kind: timeColumn},
	"guaranteed_until": {sql: "messages.expires_at", kind: timeColumn},
}}

// Messages returns a page of messages whose time is not over. The plus keeps
// the order's index the better one: few are over and not yet swept.
func (tx *Tx) Messages(q block.ListQuery) ([]block.Message, error) {
	query, args, err := messageList.page(tx, q, "SELECT "+messageColumns+" FROM messages",
		"+messages.expires_at > "+strconv.FormatInt(tx.Now.UnixMicro(), 10))
	if err != nil {
		return nil, err
	}
	return collect(tx, scanMessage, query, args...)
}

func scanMessage(row scanner) (m block.Message, err error) {
	err = row.Scan(&m.ID, &m.Project, &m.RequestID, &m.ResourceType, &m.ResourceID, &m.Action, &m.Detail, &m.EventID,
		&m.Level, asTime(&m.CreatedAt), asTime(&m.ExpiresAt))
	return m, err
}
