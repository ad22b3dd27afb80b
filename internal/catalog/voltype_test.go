package catalog

import (
	"cmp"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"kvol/internal/block"
)

// TestTypeAccess: private types are listed for the projects that were given
// them, and for nobody else.
func TestTypeAccess(t *testing.T) {
	c := memory(t)
	commit(t, c, func(tx *Tx) error {
		return cmp.Or(tx.InsertType(block.VolumeType{ID: "a", Name: "all", Public: true}),
			tx.InsertType(block.VolumeType{ID: "p", Name: "private",
				ExtraSpecs: map[string]string{"RESKEY:availability_zones": "az1, az2", "k": "v"}}),
			tx.GrantType("p", "one"))
	})
	err := c.Update(t.Context(), func(tx *Tx) error { return tx.GrantType("p", "one") })
	wantError(t, err, block.Conflict, "Volume type access for p / one combination already exists.")
	err = c.Update(t.Context(), func(tx *Tx) error { return tx.DenyType("p", "two") })
	wantError(t, err, block.NotFound, "Volume type access not found for p / two combination.")
	lists := func(want string, private bool, q block.ListQuery) {
		t.Helper()
		q.Limit, q.Sort = -1, []block.SortKey{{Column: "name"}}
		look(t, c, func(tx *Tx) error {
			all, err := tx.Types(q, private)
			var got string
			for _, one := range all {
				got += one.Name + " "
			}
			if got != want {
				t.Errorf("%+v lists %s, want %s", q, got, want)
			}
			return err
		})
	}
	lists("all private ", false, block.ListQuery{Project: "one"})
	lists("all ", false, block.ListQuery{Project: "two"})
	lists("all ", false, block.ListQuery{})
	lists("all private ", true, block.ListQuery{Project: "two"})
	lists("all ", true, block.ListQuery{Project: "two", Filters: map[string]string{"is_public": "true"}})
	lists("all private ", true, block.ListQuery{Project: "one", Filters: map[string]string{"is_public": "true"}})
	lists("private ", true, block.ListQuery{Filters: map[string]string{"is_public": "false"}})
	lists("private ", true, block.ListQuery{Metadata: map[string]string{"RESKEY:availability_zones": "az2", "k": "v"}})
	lists("", true, block.ListQuery{Metadata: map[string]string{"RESKEY:availability_zones": "az_"}})
	lists("", true, block.ListQuery{Metadata: map[string]string{"k": "w"}})
	commit(t, c, func(tx *Tx) error { return tx.DenyType("p", "one") })
	lists("all ", false, block.ListQuery{Project: "one"})
}

// TestDeleteType: what hangs on a type goes with it, and a type that is used
// stays.
func TestDeleteType(t *testing.T) {
	c := memory(t)
	commit(t, c, func(tx *Tx) error {
		return cmp.Or(tx.InsertType(block.VolumeType{ID: "t", Name: "old"}), tx.GrantType("t", "one"),
			tx.InsertTypeEncryption(block.TypeEncryption{ID: "e", TypeID: "t", Provider: "luks", ControlLocation: "back-end"}),
			tx.SetQuota("one", "volumes_old", 3), tx.SetQuotaClass(DefaultQuotaClass, "gigabytes_old", 4),
			tx.SetDefaultType("one", "t"), tx.UpdateType(block.VolumeType{ID: "t", Name: "new"}))
	})
	look(t, c, func(tx *Tx) error {
		limits, err := tx.EffectiveQuotas("one")
		if diff := gocmp.Diff(map[string]int64{"volumes_new": 3, "gigabytes_new": 4}, limits); diff != "" {
			t.Error(diff)
		}
		return err
	})
	const used = "Volume Type t deletion is not allowed with volumes present with the type."
	err := c.Update(t.Context(), func(tx *Tx) error { return tx.DeleteType("t") })
	wantError(t, err, block.Conflict, used)
	commit(t, c, func(tx *Tx) error { return cmp.Or(tx.DeleteDefaultType("one"), tx.DeleteType("t")) })
	look(t, c, func(tx *Tx) error {
		_, err := tx.Type("t")
		wantError(t, err, block.NotFound, "Volume type t could not be found.")
		_, err = tx.TypeEncryption("t")
		wantError(t, err, block.NotFound, "Volume type encryption for type t does not exist.")
		projects, err := tx.TypeAccess("t")
		limits, err2 := tx.EffectiveQuotas("one")
		if len(projects) != 0 || len(limits) != 0 {
			t.Errorf("left: %v %v", projects, limits)
		}
		return cmp.Or(err, err2)
	})
}

// TestConfigure: the configuration's types and limits are what it says at each
// start; what it no longer names stays, and what the API said stays too.
func TestConfigure(t *testing.T) {
	c := memory(t)
	a, b := block.VolumeType{ID: "a", Name: "a", Public: true}, block.VolumeType{ID: "b", Name: "b", Public: true}
	limit := func(n string) map[block.TypeID]map[string]string {
		return map[block.TypeID]map[string]string{"a": {"total_iops_sec": n}}
	}
	state := func() (all map[string]string) {
		all = map[string]string{}
		look(t, c, func(tx *Tx) error {
			types, err := tx.Types(block.ListQuery{Limit: -1}, true)
			for _, one := range types {
				text := map[bool]string{true: "configured", false: "own"}[one.Configured]
				if q, ok, err2 := tx.QoSOfType(one.ID); ok || err2 != nil {
					text += " " + q.Name + " " + q.Specs["total_iops_sec"]
					err = cmp.Or(err, err2)
				}
				all[one.Name] = text
			}
			return err
		})
		return all
	}
	start := func(want map[string]string, limits map[block.TypeID]map[string]string, types ...block.VolumeType) {
		t.Helper()
		commit(t, c, func(tx *Tx) error { return tx.Configure(types, limits) })
		if diff := gocmp.Diff(want, state()); diff != "" {
			t.Error(diff)
		}
	}
	start(map[string]string{"a": "configured configured:a 5", "b": "configured"}, limit("5"), a, b)
	commit(t, c, func(tx *Tx) error {
		return cmp.Or(tx.InsertQoS(block.QoSSpecs{ID: "q", Name: "mine", Consumer: block.QoSBackEnd,
			Specs: map[string]string{"total_iops_sec": "9"}}), tx.AssociateQoS("q", "b"))
	})
	start(map[string]string{"a": "configured configured:a 6", "b": "configured mine 9"}, limit("6"), a, b)
	start(map[string]string{"a": "configured", "b": "own mine 9"}, nil, a)
	b.Name = "c"
	start(map[string]string{"a": "own", "c": "configured mine 9"}, nil, b)
	err := c.Update(t.Context(), func(tx *Tx) error {
		return tx.Configure([]block.VolumeType{{ID: "x", Name: "a"}}, nil)
	})
	wantError(t, err, block.Conflict, "Volume Type a already exists.")
}
