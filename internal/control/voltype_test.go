package control_test

import (
	"strings"
	"sync"
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
)

// typeMethods show types to those that may use them, see TestPrivateTypes.
var typeMethods = []string{"TypeByID", "ExtraSpecs", "ExtraSpec", "DefaultType"}

// operators are the calls that only administrators may make, on types, QoS specs
// and what is set for others, with the rule that each asks.
func operators(z *zone, c block.Caller, id block.TypeID, qos string) map[string]func() error {
	const what, kind, specs = "volume_extension:", "volume_extension:volume_type_", "volume_extension:types_extra_specs:"
	const manage, project = "volume_extension:qos_specs_manage:", block.ProjectID("aaaa")
	only := func(_ any, err error) error { return err }
	return map[string]func() error{
		"CreateType " + what + "type_create": func() error {
			return only(z.CreateType(z.ctx, c, block.VolumeType{Name: "n"}))
		},
		"UpdateType " + what + "type_update": func() error { return only(z.UpdateType(z.ctx, c, id, control.TypeChange{})) },
		"DeleteType " + what + "type_delete": func() error { return z.DeleteType(z.ctx, c, id) },
		"SetExtraSpecs " + specs + "create":  func() error { return z.SetExtraSpecs(z.ctx, c, id, "create", nil) },
		"DeleteExtraSpec " + specs + "delete": func() error {
			return z.DeleteExtraSpec(z.ctx, c, id, "k")
		},
		"TypeAccess " + kind + "access:get_all_for_type":  func() error { return only(z.TypeAccess(z.ctx, c, id)) },
		"GrantType " + kind + "access:addProjectAccess":   func() error { return z.GrantType(z.ctx, c, id, project) },
		"DenyType " + kind + "access:removeProjectAccess": func() error { return z.DenyType(z.ctx, c, id, project) },
		"TypeEncryption " + kind + "encryption:get": func() error {
			_, _, err := z.TypeEncryption(z.ctx, c, id)
			return err
		},
		"CreateTypeEncryption " + kind + "encryption:create": func() error {
			return only(z.CreateTypeEncryption(z.ctx, c, block.TypeEncryption{TypeID: id}))
		},
		"UpdateTypeEncryption " + kind + "encryption:update": func() error {
			return z.UpdateTypeEncryption(z.ctx, c, id, control.EncryptionChange{})
		},
		"DeleteTypeEncryption " + kind + "encryption:delete": func() error { return z.DeleteTypeEncryption(z.ctx, c, id) },
		"ProjectDefaultType " + what + "default_get": func() error {
			return only(z.ProjectDefaultType(z.ctx, c, project))
		},
		"DefaultTypes " + what + "default_get_all": func() error { return only(z.DefaultTypes(z.ctx, c)) },
		"SetDefaultType " + what + "default_set_or_update": func() error {
			return only(z.SetDefaultType(z.ctx, c, project, string(id)))
		},
		"UnsetDefaultType " + what + "default_unset": func() error { return z.UnsetDefaultType(z.ctx, c, project) },
		"ListQoS " + manage + "get_all":              func() error { return only(z.ListQoS(z.ctx, c, block.ListQuery{})) },
		"QoS " + manage + "get":                      func() error { return only(z.QoS(z.ctx, c, qos)) },
		"CreateQoS " + manage + "create": func() error {
			return only(z.CreateQoS(z.ctx, c, block.QoSSpecs{Name: "q"}))
		},
		"UpdateQoS " + manage + "update":           func() error { return only(z.UpdateQoS(z.ctx, c, qos, nil)) },
		"DeleteQoS " + manage + "delete":           func() error { return z.DeleteQoS(z.ctx, c, qos, false) },
		"DeleteQoSKeys " + manage + "delete":       func() error { return z.DeleteQoSKeys(z.ctx, c, qos, nil) },
		"TypesOfQoS " + manage + "get_all":         func() error { return only(z.TypesOfQoS(z.ctx, c, qos)) },
		"AssociateQoS " + manage + "update":        func() error { return z.AssociateQoS(z.ctx, c, qos, id) },
		"DisassociateQoS " + manage + "update":     func() error { return z.DisassociateQoS(z.ctx, c, qos, id) },
		"QuotaClass " + what + "quota_classes:get": func() error { return only(z.QuotaClass(z.ctx, c, "default")) },
		"SetQuotaClass " + what + "quota_classes:update": func() error {
			return z.SetQuotaClass(z.ctx, c, "default", map[string]int64{"volumes": 0})
		},
	}
}

// privateType makes a type that nobody was given, on the fast backend.
func (z *zone) privateType() block.VolumeType {
	z.t.Helper()
	t, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: "private",
		ExtraSpecs: map[string]string{"volume_backend_name": "fast"}})
	must(z.t, err)
	return t
}

// TestTypesAreTheOperators: members change nothing, whatever they ask.
func TestTypesAreTheOperators(t *testing.T) {
	z := newZone(t)
	vt := z.privateType()
	q, err := z.CreateQoS(z.ctx, operator, block.QoSSpecs{Name: "slow"})
	must(t, err)
	for name, ask := range operators(z, alice, vt.ID, q.ID) {
		rule := name[strings.IndexByte(name, ' ')+1:]
		wantError(t, name, ask(), block.Forbidden, "Policy doesn't allow "+rule+" to be performed.")
	}
	after, err := z.TypeByID(z.ctx, operator, vt.ID)
	must(t, err)
	if after.Name != vt.Name || after.QoSSpecsID != nil || !after.UpdatedAt.IsZero() {
		t.Errorf("the type is now %+v", after)
	}
}

// TestPrivateTypes: a type is there for those that were given it, in every list
// and by every way to name it.
func TestPrivateTypes(t *testing.T) {
	z := newZone(t)
	vt := z.privateType()
	sees := func(c block.Caller, want bool) {
		t.Helper()
		list, err := z.Types(z.ctx, c, block.ListQuery{Limit: -1})
		must(t, err)
		listed := false
		for _, one := range list {
			listed = listed || one.ID == vt.ID
		}
		_, byID := z.TypeByID(z.ctx, c, vt.ID)
		_, byName := z.Type(z.ctx, c, vt.Name)
		_, specs := z.ExtraSpecs(z.ctx, c, vt.ID)
		_, spec := z.ExtraSpec(z.ctx, c, vt.ID, "multiattach")
		_, made := z.CreateVolume(z.ctx, c, control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
		if listed != want || (byID == nil) != want || (byName == nil) != want || (specs == nil) != want ||
			(made == nil) != want || !block.Is(spec, block.NotFound) {
			t.Errorf("%s: listed %v, %v, %v, %v, %v, %v", c.User, listed, byID, byName, specs, spec, made)
		}
		missing := "Volume type " + string(vt.ID) + " could not be found."
		if sentence, _ := block.UserMessage(byID); !want && sentence != missing {
			t.Errorf("%s is told: %v", c.User, byID)
		}
		if sentence, _ := block.UserMessage(spec); !want && sentence != missing {
			t.Errorf("%s is told: %v", c.User, spec)
		}
	}
	sees(alice, false)
	sees(operator, true)
	must(t, z.GrantType(z.ctx, operator, vt.ID, alice.Project))
	sees(alice, true)
	sees(mallory, false)
	must(t, z.DenyType(z.ctx, operator, vt.ID, alice.Project))
	sees(alice, false)
	z.work(z.ctx)
}

// TestTypeInUse: what the volumes of a type rely on does not change under them.
func TestTypeInUse(t *testing.T) {
	z := newZone(t)
	vt := z.privateType()
	v, err := z.CreateVolume(z.ctx, operator, control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	must(t, err)
	z.work(z.ctx)
	const inUse = "Volume Type is currently in use."
	for method, want := range map[string]string{
		"SetExtraSpecs": inUse, "DeleteExtraSpec": inUse, "DeleteType": "Target volume type is still in use.",
		"CreateTypeEncryption": "Cannot create encryption specs. Volume type in use.",
		"UpdateTypeEncryption": "Cannot update encryption specs. Volume type in use.",
		"DeleteTypeEncryption": "Cannot delete encryption specs. Volume type in use.",
	} {
		for name, ask := range operators(z, operator, vt.ID, "") {
			if strings.HasPrefix(name, method+" ") {
				wantError(t, method, ask(), block.Invalid, want)
			}
		}
	}
	must(t, z.DeleteVolume(z.ctx, operator, v.ID, false))
	z.work(z.ctx)
	must(t, z.DeleteType(z.ctx, operator, vt.ID))
}

// TestConfiguredTypes: what the configuration says about its types no API
// changes; whom they are for, and by default, it may say.
func TestConfiguredTypes(t *testing.T) {
	z := newZone(t)
	vt, err := z.Type(z.ctx, operator, "secret")
	must(t, err)
	const refused = "Volume type secret is named by the zone's configuration, which says what it is; " +
		"it can be changed there only."
	_, err = z.UpdateType(z.ctx, operator, vt.ID, control.TypeChange{Name: ptr("open")})
	wantError(t, "update", err, block.Invalid, refused)
	wantError(t, "delete", z.DeleteType(z.ctx, operator, vt.ID), block.Invalid, refused)
	err = z.SetExtraSpecs(z.ctx, operator, vt.ID, "create", map[string]string{"k": "v"})
	wantError(t, "specs", err, block.Invalid, refused)
	must(t, z.GrantType(z.ctx, operator, vt.ID, alice.Project))
	_, err = z.SetDefaultType(z.ctx, operator, alice.Project, "secret")
	must(t, err)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	if v.TypeName != "secret" {
		t.Errorf("the default type is %s", v.TypeName)
	}
	must(t, z.UnsetDefaultType(z.ctx, operator, alice.Project))
	zone, err := z.DefaultType(z.ctx, alice)
	must(t, err)
	wantError(t, "the zone's default", z.DeleteType(z.ctx, operator, zone.ID), block.Invalid,
		"The volume type "+string(zone.ID)+" is a default volume type and cannot be deleted.")
}

// TestTypePlaces: where a volume lies follows from its type's extra specs.
func TestTypePlaces(t *testing.T) {
	z := newZone(t)
	for i, tt := range []struct {
		specs         map[string]string
		backend, zone string
		sentence      string
	}{
		{map[string]string{"volume_backend_name": "slow"}, "slow", "kr-a", ""},
		{map[string]string{"volume_backend_name": "<or> none <or> twin"}, "twin", "kr-a", ""},
		{map[string]string{"volume_backend_name": "fast", "storage_protocol": "nbd", "vendor_name": "s== kvol",
			"capabilities:multiattach": "<is> true", "vendor:key": "x", "anything": "y"}, "fast", "kr-a", ""},
		{map[string]string{"volume_backend_name": "fast", "RESKEY:availability_zones": "kr-c, kr-b"}, "fast", "kr-b", ""},
		{map[string]string{"volume_backend_name": "fast", "storage_protocol": "FC"}, "", "kr-a", ""},            // no backend
		{map[string]string{"volume_backend_name": "fast", "capabilities:unheard": "<is> True"}, "", "kr-a", ""}, // no backend
		{map[string]string{"volume_backend_name": "fast", "replication_enabled": "<is> True"}, "", "kr-a", ""},  // no backend
		{map[string]string{"volume_backend_name": "fast", "RESKEY:availability_zones": "far"}, "", "",
			"Volume type is only supported in these availability zones: ['far']"},
	} {
		vt, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: block.NewID(), Public: true, ExtraSpecs: tt.specs})
		must(t, err)
		v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
		sentence, _ := block.UserMessage(err)
		if sentence != tt.sentence || v.Backend != tt.backend || v.AvailabilityZone != tt.zone {
			t.Errorf("%d %v: on %s in %s, %v", i, tt.specs, v.Backend, v.AvailabilityZone, err)
		}
	}
	_, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: "both",
		ExtraSpecs: map[string]string{"multiattach": "<is> True", "cacheable": "<is> True"}})
	wantError(t, "specs", err, block.Invalid, "cacheable cannot be set with multiattach.")
	z.work(z.ctx)
}

// TestTypeQuotaRace: of many that ask for the last of a type at once as many
// get it as there is room for; and the limits follow the type's name.
func TestTypeQuotaRace(t *testing.T) {
	z := newZone(t)
	vt := z.privateType()
	must(t, z.GrantType(z.ctx, operator, vt.ID, alice.Project))
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"volumes_private": 3}))
	must(t, z.SetQuotaClass(z.ctx, operator, "default", map[string]int64{"gigabytes_private": 8}))
	_, err := z.UpdateType(z.ctx, operator, vt.ID, control.TypeChange{Name: ptr("renamed")})
	must(t, err)
	race := func(size int64, want int, sentence string) {
		t.Helper()
		var wg sync.WaitGroup
		errs := make([]error, 12)
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = z.CreateVolume(z.ctx, alice, control.NewVolume{Size: &size, VolumeType: ptr("renamed")})
			})
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
				continue
			}
			wantError(t, "create", err, block.OverLimit, sentence)
		}
		if made != want {
			t.Errorf("%d volumes were made, not %d", made, want)
		}
	}
	race(2, 3, "VolumeLimitExceeded: Maximum number of volumes allowed (3) exceeded for quota 'volumes_renamed'.")
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"volumes_renamed": -1}))
	race(1, 2, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes_renamed quota. "+
		"Requested 1G, quota is 8G and 8G has been consumed.")
	z.work(z.ctx)
	err = z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"volumes_renamed": 2})
	wantError(t, "lowering", err, block.Invalid, "Quota volumes_renamed limit must be equal or greater than existing "+
		"resources. Current usage is 5 and the requested limit is 2.")
}
