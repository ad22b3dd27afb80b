package cinder

import (
	"net/http"

	"kvol/internal/block"
	"kvol/internal/control"
)

var messageList = listing{name: "messages_links", path: "messages", linkAsked: true, strict: true,
	sort: []string{"id", "event_id", "resource_uuid", "resource_type", "request_id", "message_level", "created_at",
		"guaranteed_until", "expires_at"},
	filters: []string{"resource_uuid", "resource_type", "event_id", "request_id", "message_level"}}

// listMessages ignores all parameters before 3.5 (cinder/api/v3/messages.py).
// Administrators see the messages of all projects.
func listMessages(c *call) error {
	p := page{of: messageList}
	p.query.Limit = maxPage
	if c.view.since(5) {
		var err error
		if p, err = c.page(messageList); err != nil {
			return err
		}
	}
	p.query.Project = ""
	if project, given := p.params.get("project_id"); given {
		p.query.Project = block.ProjectID(project)
	}
	var list []control.Message
	if !p.none {
		var err error
		if list, err = c.s.cfg.Control.Messages(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("messages")
		e.open('[')
		for _, m := range list {
			c.view.message(e, m)
		}
		e.close(']')
		if n := len(list); n > 0 {
			p.links(e, n, list[n-1].ID)
		}
		e.close('}')
	})
}

func showMessage(c *call) error {
	m, err := c.s.cfg.Control.Message(c.r.Context(), c.caller, c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("message")
		c.view.message(e, m)
		e.close('}')
	})
}

func deleteMessage(c *call) error {
	if err := c.s.cfg.Control.DeleteMessage(c.r.Context(), c.caller, c.r.PathValue("id")); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (v view) message(e *encoder, m control.Message) {
	e.open('{')
	e.stringMember("id", m.ID)
	e.stringMember("event_id", m.EventID)
	e.stringMember("user_message", m.Text)
	e.stringMember("message_level", m.Level)
	e.timeMember("created_at", m.CreatedAt)
	e.timeMember("guaranteed_until", m.ExpiresAt)
	e.stringMember("request_id", m.RequestID)
	v.links(e, "messages", m.ID)
	e.stringMember("resource_type", m.ResourceType)
	e.stringMember("resource_uuid", m.ResourceID)
	e.close('}')
}
