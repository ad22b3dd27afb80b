package cinder

import (
	"net/http"
	"slices"

	"kvol/internal/block"
	"kvol/internal/control"
)

// transferPath is the collection that links to transfers lead into, whichever of
// the two paths the request came by (cinder/api/views/transfers.py).
const transferPath = "os-volume-transfer"

var transferList = listing{name: "transfers_links", path: transferPath,
	sort: []string{
		"id",
		"name",
		"display_name",
		"created_at",
		"volume_id",
		"project_id",
	}, booleans: []string{"no_snapshots"},
	filters: []string{"id", "name", "volume_id", "no_snapshots", "created_at", "source_project_id"}}

var (
	createTransferBody   = newTransferBody()
	createTransferBody55 = newTransferBody(property{"no_snapshots", false, boolean})
	acceptTransferBody   = envelope("accept", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"auth_key", true, &schema{kinds: []string{"string", "integer"}}}}})
)

func newTransferBody(more ...property) *schema {
	return envelope("transfer", &schema{kinds: []string{"object"}, closed: true, members: append([]property{
		{"volume_id", true, &schema{kinds: []string{"string"}, uuid: true}},
		{"name", false, &schema{named: true}},
	}, more...)})
}

func (c *call) transferID() block.TransferID { return block.TransferID(c.r.PathValue("id")) }

func listTransfers(c *call) error { return c.transfers(transferPath, false) }

func listTransfersDetail(c *call) error { return c.transfers(transferPath+"/detail", true) }

func listTransfers55(c *call) error { return c.transfers("volume-transfers", false) }

func listTransfersDetail55(c *call) error { return c.transfers("volume-transfers/detail", true) }

// transfers lists offers. Before 3.59 they could not be sorted and came from old
// to new.
func (c *call) transfers(collection string, full bool) error {
	p, err := c.page(transferList)
	if err != nil {
		return err
	}
	p.collection = collection
	if !c.view.since(59) {
		p.query.Sort = []block.SortKey{{Column: "created_at"}, {Column: "id"}}
	}
	var transfers []block.Transfer
	if !p.none {
		if transfers, err = c.s.cfg.Control.Transfers(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("transfers")
		e.open('[')
		for _, t := range transfers {
			if full {
				c.view.transfer(e, t, "")
			} else {
				c.view.transferSummary(e, t)
			}
		}
		e.close(']')
		if len(transfers) > 0 {
			p.links(e, len(transfers), string(transfers[len(transfers)-1].ID))
		}
		e.close('}')
	})
}

// transferAs answers with one offer.
func (c *call) transferAs(status int, show func(*encoder)) error {
	return c.document(status, func(e *encoder) {
		e.open('{')
		e.key("transfer")
		show(e)
		e.close('}')
	})
}

func showTransfer(c *call) error {
	t, err := c.s.cfg.Control.Transfer(c.r.Context(), c.caller, c.transferID())
	if err != nil {
		return err
	}
	return c.transferAs(http.StatusOK, func(e *encoder) { c.view.transfer(e, t, "") })
}

func createTransfer(c *call) error {
	o, err := c.checked("transfer", newTransferBodyOf(c.view.edition))
	if err != nil {
		return err
	}
	o = o.object("transfer")
	t, key, err := c.s.cfg.Control.CreateTransfer(c.r.Context(), c.caller, control.NewTransfer{
		VolumeID: *id[block.VolumeID](o, "volume_id"), Name: o.stripped("name"), NoSnapshots: o.flag("no_snapshots"),
		AllowEncrypted: c.view.since(70)})
	if err != nil {
		return err
	}
	return c.transferAs(http.StatusAccepted, func(e *encoder) { c.view.transfer(e, t, key) })
}

func acceptTransfer(c *call) error {
	o, err := c.checked("accept", acceptTransferBody)
	if err != nil {
		return err
	}
	key, _ := o.object("accept").get("auth_key")
	t, err := c.s.cfg.Control.AcceptTransfer(c.r.Context(), c.caller, c.transferID(), pyStr(key))
	if err != nil {
		return err
	}
	return c.transferAs(http.StatusAccepted, func(e *encoder) { c.view.transferSummary(e, t) })
}

func deleteTransfer(c *call) error {
	return c.accepted(c.s.cfg.Control.DeleteTransfer(c.r.Context(), c.caller, c.transferID()))
}

// transferSummary writes an offer as lists have it, and as its acceptance
// answers.
func (v view) transferSummary(e *encoder, t block.Transfer) {
	e.open('{')
	e.stringMember("id", string(t.ID))
	e.stringMember("volume_id", string(t.VolumeID))
	orNull(e, "name", t.Name)
	v.links(e, transferPath, string(t.ID))
	e.close('}')
}

// transfer writes an offer in full, with its key if there is one to show. One
// that was accepted is shown nowhere, so the members that tell of that are
// constant.
func (v view) transfer(e *encoder, t block.Transfer, key string) {
	e.open('{')
	e.stringMember("id", string(t.ID))
	e.timeMember("created_at", t.CreatedAt)
	orNull(e, "name", t.Name)
	e.stringMember("volume_id", string(t.VolumeID))
	if key != "" {
		e.stringMember("auth_key", key)
	}
	v.links(e, transferPath, string(t.ID))
	if v.since(55) {
		e.boolMember("no_snapshots", t.NoSnapshots)
	}
	if v.since(57) {
		e.nullMember("destination_project_id")
		e.stringMember("source_project_id", string(t.Project))
		e.boolMember("accepted", false)
	}
	e.close('}')
}

// transferRoutes are those of both paths; the newer one came with 3.55.
var transferRoutes = slices.Concat(transferRoutesAt("/"+transferPath, 0, listTransfers, listTransfersDetail),
	transferRoutesAt("/volume-transfers", 55, listTransfers55, listTransfersDetail55))

func transferRoutesAt(path string, since int, list, detail func(*call) error) []route {
	return []route{
		{"GET", path, since, list},
		{"GET", path + "/detail", since, detail},
		{"POST", path, since, createTransfer},
		{"GET", path + "/{id}", since, showTransfer},
		{"DELETE", path + "/{id}", since, deleteTransfer},
		{"POST", path + "/{id}/accept", since, acceptTransfer},
	}
}
