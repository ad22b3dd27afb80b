package cinder

import (
	"net/http"
	"strings"

	"kvol/internal/control"
)

var (
	hostText    = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}
	serviceText = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}
	orNullText  = &schema{kinds: []string{"string", "null"}, maxLen: 255}

	enableBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"binary", false, serviceText}, {"host", false, hostText}, {"cluster", false, orNullText},
		{"service", false, serviceText}}}
	disableReasonBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"binary", false, serviceText}, {"host", false, hostText}, {"cluster", false, orNullText},
		{"service", false, serviceText}, {"disabled_reason", false, serviceText}}}
	freezeBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"cluster", false, orNullText}, {"host", false, hostText}}}
	failoverBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"host", false, hostText}, {"backend_id", false, orNullText}, {"cluster", false, orNullText}}}
	logBody = &schema{kinds: []string{"object"}, closed: true, members: []property{{"binary", false, orNullText},
		{"server", false, orNullText}, {"prefix", false, orNullText}, {"level", false, orNullText}}}
)

// host is how the API calls a service: "kvol@backend", or "kvol" for one
// without a backend.
func (c *call) host(backend string) string {
	if backend == "" {
		return c.s.cfg.Host
	}
	return c.s.cfg.Host + "@" + backend
}

// hostOf is how the API calls a listed service: one of a single process of several
// by that.
func (c *call) hostOf(s control.ServiceInfo) string {
	if s.Process != "" {
		return c.s.cfg.Host + "." + s.Process
	}
	return c.host(s.Backend)
}

// backend is the other way. What is no host of this process is no backend.
func (c *call) backend(host string) string {
	if host == c.s.cfg.Host {
		return ""
	}
	if name, ok := strings.CutPrefix(host, c.s.cfg.Host+"@"); ok {
		return name
	}
	return "@" + host
}

func listServices(c *call) error {
	ps, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	list, err := c.s.cfg.Control.Services(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	host, byHost := ps.get("host")
	binary, byBinary := ps.get("binary")
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("services")
		e.open('[')
		for _, s := range list {
			// A host without a backend means all that it has.
			if own := c.hostOf(s); byHost && host != own && !strings.HasPrefix(own, host+"@") ||
				byBinary && binary != s.Kind {
				continue
			}
			c.service(e, s)
		}
		e.close(']')
		e.close('}')
	})
}

func (c *call) service(e *encoder, s control.ServiceInfo) {
	e.open('{')
	e.stringMember("binary", s.Kind)
	e.stringMember("host", c.hostOf(s))
	e.stringMember("zone", s.Zone)
	e.stringMember("status", enabled(s.Disabled))
	e.stringMember("state", upOrDown(s.Up))
	e.timeMember("updated_at", s.UpdatedAt)
	if c.view.since(7) {
		e.nullMember("cluster")
	}
	orNull(e, "disabled_reason", s.Reason)
	if s.Kind == control.VolumeService {
		if c.view.since(49) {
			e.stringMember("backend_state", upOrDown(s.Up))
		}
		e.stringMember("replication_status", s.Replication)
		orNull(e, "active_backend_id", s.Active)
		e.boolMember("frozen", s.Frozen)
	}
	e.close('}')
}

func enabled(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "enabled"
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// updateService is PUT /os-services/{action} (cinder/api/contrib/services.py).
// Who may is asked before what was sent is looked at.
func updateService(c *call) error {
	what := c.r.PathValue("action")
	if err := c.s.cfg.Control.MayAdminister(c.r.Context(), c.caller, "volume_extension:services:update"); err != nil {
		return err
	}
	switch {
	case what == "enable":
		return c.setService(enableBody, false)
	case what == "disable":
		return c.setService(enableBody, true)
	case what == "disable-log-reason":
		return c.setService(disableReasonBody, true)
	case what == "freeze", what == "thaw":
		return c.freeze(what == "freeze")
	case what == "failover_host", what == "failover" && c.view.since(26):
		return c.failOver()
	case (what == "set-log" || what == "get-log") && c.view.since(32):
		return c.logLevels(what == "get-log")
	}
	return invalid("Invalid input received: Unknown action")
}

// hosted reads a body and its host.
func (c *call) hosted(body *schema) (o *object, host string, err error) {
	if o, err = c.checked("body", body); err != nil {
		return nil, "", err
	}
	name := o.text("host")
	if name == nil {
		return nil, "", invalid("Invalid input received: Host field is missing.")
	}
	return o, *name, nil
}

func (c *call) setService(body *schema, disabled bool) error {
	o, host, err := c.hosted(body)
	if err != nil {
		return err
	}
	binary, service := orEmpty(o.text("binary")), orEmpty(o.text("service"))
	kind := binary
	if kind == "" {
		kind = service
	}
	if kind == "" {
		return invalid("Invalid input for field/attribute body. 'binary' is a required property")
	}
	reason := o.text("disabled_reason")
	if err := c.s.cfg.Control.SetService(c.r.Context(), c.caller, kind, c.backend(host), disabled, reason); err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		if body == disableReasonBody {
			orNull(e, "disabled_reason", reason)
		}
		e.boolMember("disabled", disabled)
		e.stringMember("host", host)
		e.stringMember("service", service)
		e.stringMember("binary", binary)
		e.stringMember("status", enabled(disabled))
		e.close('}')
	})
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (c *call) freeze(frozen bool) error {
	_, host, err := c.hosted(freezeBody)
	if err == nil {
		err = c.s.cfg.Control.FreezeBackend(c.r.Context(), c.caller, c.backend(host), host, frozen)
	}
	if err != nil {
		return err
	}
	return c.empty(http.StatusOK)
}

func (c *call) failOver() error {
	o, host, err := c.hosted(failoverBody)
	if err == nil {
		err = c.s.cfg.Control.FailOverBackend(c.r.Context(), c.caller, c.backend(host), host, orEmpty(o.text("backend_id")))
	}
	return c.accepted(err)
}

// logLevels answers as Cinder does where no service has levels to tell or to
// change.
func (c *call) logLevels(get bool) error {
	if _, err := c.checked("body", logBody); err != nil {
		return err
	}
	if !get {
		return c.empty(http.StatusAccepted)
	}
	return c.answer(http.StatusOK, map[string][]any{"log_levels": {}})
}
