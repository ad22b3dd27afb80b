package block

import "time"

// RecoveryRequest asks for volumes of another zone to be recovered in the zone
// that is asked.
type RecoveryRequest struct {
	Scope    RecoveryScope   `json:"scope"`
	Point    PointChoice     `json:"point,omitzero"`
	Mapping  RecoveryMapping `json:"mapping,omitzero"`
	Parallel int             `json:"parallel,omitempty"` // volumes that are filled at once; the zone's limit for 0
	// DryRun tells what would happen and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
	// AcceptLoss says that what the points do not have may be lost.
	AcceptLoss bool `json:"accept_loss,omitempty"`
	// SkipUnrecoverable recovers the others where some volumes can't be.
	SkipUnrecoverable bool `json:"skip_unrecoverable,omitempty"`
	// OverQuota recovers beyond quotas, for administrators.
	OverQuota bool `json:"over_quota,omitempty"`
	// AcceptRivals names zones of which an administrator knows that they are lost, or
	// did not take over what is recovered: their silence is no hindrance.
	AcceptRivals []Zone `json:"accept_rivals,omitempty"`
	// Again recovers what was recovered here already once more. The right to write
	// moves to the new volume.
	Again          bool   `json:"again,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// RecoveryScope says which volumes are meant: one of Volumes, Group, Project and
// Plan, or all of a zone. Zone limits the others to volumes of a source zone.
type RecoveryScope struct {
	Zone    Zone       `json:"zone,omitempty"`
	Volumes []VolumeID `json:"volumes,omitempty"`
	Group   GroupID    `json:"group,omitempty"`
	Project ProjectID  `json:"project,omitempty"`
	Plan    string     `json:"plan,omitempty"` // id or name
}

// Empty reports whether nothing is named.
func (s RecoveryScope) Empty() bool {
	return s.Zone == "" && len(s.Volumes) == 0 && s.Group == "" && s.Project == "" && s.Plan == ""
}

// PointChoice says as of when: the newest point unless At or Name is given.
type PointChoice struct {
	// At takes the newest point that is not younger.
	At *time.Time `json:"at,omitempty"`
	// Name takes the point of this id, or the one of a tenant's snapshot or group
	// snapshot: its id, or its name if only one has it.
	Name string `json:"name,omitempty"`
	// LastClean takes the newest point before something that looks like sudden
	// encryption.
	LastClean bool `json:"last_clean,omitempty"`
	// SameInstant says whether volumes of one group must be recovered as of one
	// instant. They must where nil and the group was asked for.
	SameInstant *bool `json:"same_instant,omitempty"`
}

// Newest reports whether the newest point is meant, whatever that is when the
// volume's turn comes.
func (p PointChoice) Newest() bool { return p.At == nil && p.Name == "" && !p.LastClean }

// RecoveryMapping says what becomes of what: a name or id of the source, or "*"
// for all that are not named, to one of the destination.
type RecoveryMapping struct {
	Project          map[ProjectID]ProjectID `json:"project,omitempty"`           // the same where not mapped
	Type             map[string]string       `json:"type,omitempty"`              // that of the same name where not mapped
	AvailabilityZone map[string]string       `json:"availability_zone,omitempty"` // the zone's default where not mapped
	// Name is the new volumes' name, in which {name}, {id} and {zone} stand for the
	// source's; that of the source if empty.
	Name string `json:"name,omitempty"`
}

// RecoveryPlan is how an operator or a tenant wants volumes to be recovered: in
// waves, each of which begins when the one before is served.
type RecoveryPlan struct {
	ID          string          `json:"id"`
	Project     ProjectID       `json:"project_id"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Waves       []RecoveryWave  `json:"waves"`
	Mapping     RecoveryMapping `json:"mapping"` // where the request has none
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
}

// RecoveryWave is a part of a RecoveryPlan. Scope names no plan.
type RecoveryWave struct {
	Name     string        `json:"name"`
	Scope    RecoveryScope `json:"scope"`
	Parallel int           `json:"parallel,omitempty"`
	// WaitSeconds passes before the wave begins, then Before runs; After runs when
	// its volumes are served. Both are names of hooks in the zone's configuration.
	WaitSeconds int    `json:"wait_seconds,omitempty"`
	Before      string `json:"before,omitempty"`
	After       string `json:"after,omitempty"`
	// HookSeconds is how long a hook may take; what its configuration says for 0.
	HookSeconds int `json:"hook_seconds,omitempty"`
	// GoOn begins the next wave even if a volume or a hook of this one failed.
	GoOn bool `json:"continue_on_failure,omitempty"`
}
