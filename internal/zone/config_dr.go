package zone

import (
	"fmt"
	"net/url"
	"time"

	"kvol/internal/control"
)

// DRConfig is about recoveries in this zone.
type DRConfig struct {
	// SecondConsent has recoveries by which writes may be lost wait until another
	// administrator agrees.
	SecondConsent bool `yaml:"second_consent"`
	Parallel      int  `yaml:"parallel"` // volumes that a recovery fills at once; 16 if absent
	// RivalTimeout is how long other zones are waited for that may have taken a
	// volume over; 2s if absent.
	RivalTimeout time.Duration `yaml:"rival_timeout"`
	// HoldClean is how long the last point before something that looks like sudden
	// encryption is held; 168h if absent, not at all if negative.
	HoldClean time.Duration `yaml:"hold_clean"`
	// VerifyWithin is the time in which each replica is read again; 168h if absent,
	// never by itself if negative. VerifyMiBs is how much of them is read in a
	// second at most; 64 MiB if absent.
	VerifyWithin time.Duration `yaml:"verify_within"`
	VerifyMiBs   int64         `yaml:"verify_mib_s"`
	// Hooks are what recovery plans may name.
	Hooks []HookConfig `yaml:"hooks"`
	// Probes are what drills may look at their clones with.
	Probes []ProbeConfig `yaml:"probes"`
	// KeepDrills is how many drills a project has at most, with their reports; 200
	// if absent. DrillScratchGiB is how much data a drill may copy below data_dir to
	// check a file system; 64 if absent.
	KeepDrills      int   `yaml:"keep_drills"`
	DrillScratchGiB int64 `yaml:"drill_scratch_gib"`
	// Doctor is how often the doctor looks by itself; 10m if absent, never if below
	// 0.
	Doctor time.Duration `yaml:"doctor"`
	// ConsentFor is how long a recovery waits for a second administrator; 24h if
	// absent.
	ConsentFor time.Duration `yaml:"consent_for"`
	// Audit says what of the audit log stays in the catalog; the rest goes into
	// files.
	Audit AuditConfig `yaml:"audit"`
}

// AuditConfig is what the catalog keeps of the audit log.
type AuditConfig struct {
	Keep    time.Duration `yaml:"keep"`    // 9600h (400 days) if absent
	Records int64         `yaml:"records"` // 1,000,000 if absent
}

// HookConfig is a hook: a URL that is posted to, or a command that is run.
type HookConfig struct {
	Name    string        `yaml:"name"`
	URL     string        `yaml:"url"`
	Command []string      `yaml:"command"` // the program and its arguments; no shell
	Timeout time.Duration `yaml:"timeout"` // 30s if absent
}

// ProbeConfig is a probe of drills, which is a hook that tenants may use or not.
type ProbeConfig struct {
	HookConfig `yaml:",inline"`
	Tenants    bool `yaml:"tenants"`
}

func (d DRConfig) check() error {
	switch {
	case d.Parallel < 0:
		return fmt.Errorf("dr.parallel: %d is less than 1", d.Parallel)
	case d.VerifyMiBs < 0 || d.VerifyMiBs > 1<<20:
		return fmt.Errorf("dr.verify_mib_s: %d is not between 0 and %d", d.VerifyMiBs, 1<<20)
	case d.KeepDrills < 0:
		return fmt.Errorf("dr.keep_drills: %d is less than 1", d.KeepDrills)
	case d.DrillScratchGiB < 0:
		return fmt.Errorf("dr.drill_scratch_gib: %d is less than 1", d.DrillScratchGiB)
	}
	if d.RivalTimeout < 0 {
		return fmt.Errorf("dr.rival_timeout: %s is less than 0", d.RivalTimeout)
	}
	if d.Audit.Keep < 0 || d.Audit.Records < 0 {
		return fmt.Errorf("dr.audit: keep and records are not negative")
	}
	if d.ConsentFor < 0 {
		return fmt.Errorf("dr.consent_for: %s is less than 0", d.ConsentFor)
	}
	names := map[string]bool{}
	for _, h := range d.Hooks {
		if err := h.check("dr.hooks", names); err != nil {
			return err
		}
	}
	names = map[string]bool{}
	for _, p := range d.Probes {
		if err := p.check("dr.probes", names); err != nil {
			return err
		}
	}
	return nil
}

// check refuses one that can't be run, or has the name of another one.
func (h HookConfig) check(where string, names map[string]bool) error {
	u, err := url.Parse(h.URL)
	switch {
	case h.Name == "" || names[h.Name]:
		return fmt.Errorf("%s: each needs a name of its own, and %q is none", where, h.Name)
	case (h.URL == "") == (len(h.Command) == 0):
		return fmt.Errorf("%s: %s: either url or command is needed", where, h.Name)
	case h.URL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https"):
		return fmt.Errorf("%s: %s: %q is no URL of http or https", where, h.Name, h.URL)
	case h.Timeout < 0:
		return fmt.Errorf("%s: %s: a timeout is more than 0", where, h.Name)
	}
	names[h.Name] = true
	return nil
}

func (d DRConfig) hooks() map[string]control.Hook {
	all := map[string]control.Hook{}
	for _, h := range d.Hooks {
		all[h.Name] = h.hook()
	}
	return all
}

func (h HookConfig) hook() control.Hook {
	return control.Hook{URL: h.URL, Command: h.Command, Timeout: h.Timeout}
}

func (d DRConfig) probes() map[string]control.Probe {
	all := map[string]control.Probe{}
	for _, p := range d.Probes {
		all[p.Name] = control.Probe{Hook: p.hook(), Tenants: p.Tenants}
	}
	return all
}
