package control

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/policy"
)

const (
	maxMetadataItems  = 128 // cinder/quota.py: metadata_items
	maxMetadataLength = 255 // of a key and of a value, in characters
	maxSize           = 1<<31 - 1
)

// forbid is the answer to a caller whose roles do not allow a rule. The names
// of the rules are Cinder's (cinder/policies).
func forbid(rule string) error {
	return block.Errorf(block.Forbidden, "Policy doesn't allow %s to be performed.", rule)
}

// Where a rule is not among Cinder's, the operator has written none of its name
// and none of the name "default", it is decided as one of these.
const (
	readersRule = "xena_system_admin_or_project_reader"
	membersRule = "xena_system_admin_or_project_member"
	adminsRule  = "admin_api"
)

// mayRead, mayWrite and mustAdminister ask whether a caller may do what is
// about its own project, as creating and listing are. They differ in who may by
// default where Cinder has no rule of that name: readers, members or
// administrators.
func mayRead(c block.Caller, rule string) error {
	return authorize(c, rule, readersRule, policy.Self(c))
}

func mayWrite(c block.Caller, rule string) error {
	return authorize(c, rule, membersRule, policy.Self(c))
}

func mustAdminister(c block.Caller, rule string) error {
	return authorize(c, rule, adminsRule, policy.Self(c))
}

// mayMake is mayWrite for what makes something that is the caller's project's. An
// administrator of all the system may do much without one, but not this: Cinder
// makes rows of no project then, which nobody but administrators ever sees.
func mayMake(c block.Caller, rule string) error {
	return first(mayWrite(c, rule), inProject(c))
}

func inProject(c block.Caller) error {
	if c.Project == "" {
		return block.Errorf(block.Forbidden, "What is made belongs to a project: a token of one is needed.")
	}
	return nil
}

// Sees reports whether a caller is shown what one of Cinder's rules about views
// guards.
func (s *Service) Sees(c block.Caller, rule string) bool { return mustAdminister(c, rule) == nil }

// authorize asks the zone's rules whether a caller may do something to a
// target. The answer to a caller that may not is Forbidden.
func authorize(c block.Caller, rule, otherwise string, target policy.Target) error {
	judge := c.Judge
	if judge == nil {
		judge = policy.Default()
	}
	if !judge.Allows(c, rule, otherwise, target) {
		return forbid(rule)
	}
	return nil
}

// sees reports whether something of a project is there for a caller. What is
// not is answered as if it were nowhere, whatever the rules.
func sees(c block.Caller, project block.ProjectID) bool { return c.Admin() || c.Own() == project }

// volumeOf returns a volume that the caller may see. Another project's is not
// there, in the same words.
func volumeOf(tx *catalog.Tx, c block.Caller, id block.VolumeID) (block.Volume, error) {
	v, err := tx.Volume(id)
	if err == nil && !sees(c, v.Project) {
		err = block.Errorf(block.NotFound, "Volume %s could not be found.", id)
	}
	if err != nil {
		return block.Volume{}, err
	}
	return v, nil
}

// snapshotOf is volumeOf for snapshots.
func snapshotOf(tx *catalog.Tx, c block.Caller, id block.SnapshotID) (block.Snapshot, error) {
	sn, err := tx.Snapshot(id)
	if err == nil && !sees(c, sn.Project) {
		err = block.Errorf(block.NotFound, "Snapshot %s could not be found.", id)
	}
	if err != nil {
		return block.Snapshot{}, err
	}
	return sn, nil
}

// changeVolume runs fn on a volume that the caller may change under a rule, in
// one transaction. What is not there is said before what is not allowed.
func (s *Service) changeVolume(ctx context.Context, c block.Caller, id block.VolumeID, rule string,
	fn func(*catalog.Tx, block.Volume) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, err := volumeOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := authorize(c, rule, membersRule, volumeTarget(v)); err != nil {
			return err
		}
		return fn(tx, v)
	})
}

// changeSnapshot is changeVolume for snapshots.
func (s *Service) changeSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID, rule string,
	fn func(*catalog.Tx, block.Snapshot) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		sn, err := snapshotOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := authorize(c, rule, membersRule, snapshotTarget(sn)); err != nil {
			return err
		}
		return fn(tx, sn)
	})
}

func invalidVolume(format string, args ...any) error {
	return block.Errorf(block.Invalid, "Invalid volume: %s", fmt.Sprintf(format, args...))
}

func invalidSnapshot(format string, args ...any) error {
	return block.Errorf(block.Invalid, "Invalid snapshot: %s", fmt.Sprintf(format, args...))
}

func invalidInput(format string, args ...any) error {
	return block.Errorf(block.Invalid, "Invalid input received: %s", fmt.Sprintf(format, args...))
}

// refusal puts Cinder's sentence in the place of the status table's Conflict:
// there a wrong state is a 400.
func refusal(err, sentence error) error {
	if block.Is(err, block.Conflict) {
		return sentence
	}
	return err
}

// notStale refuses what would write to a volume that lives on elsewhere.
func notStale(v block.Volume) error {
	if err := notSwitching(v); err != nil || v.RecoveredTo == nil {
		return err
	}
	return invalidVolume("Volume %s was recovered in zone %s as volume %s and lives on there; this copy is read-only.",
		v.ID, v.RecoveredTo.Zone, v.RecoveredTo.Volume)
}

// notSwitching refuses what must wait for the end of a planned failover.
func notSwitching(v block.Volume) error {
	if v.Switching == "" {
		return nil
	}
	return invalidVolume("Volume %s is being moved to zone %s; wait for the end of that.", v.ID, v.Switching)
}

var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. /]{1,255}$`)

// checkMetadata keeps the limits of cinder/api/validation: keys of a set of
// characters, lengths, and the count.
func checkMetadata(metadata map[string]string) error {
	if len(metadata) > maxMetadataItems {
		return invalidInput("Metadata has %d items, more than %d.", len(metadata), maxMetadataItems)
	}
	for k, v := range metadata {
		if !metadataKey.MatchString(k) {
			return invalidInput("Metadata key '%s' must be 1 to %d of the characters a-z, A-Z, 0-9, '-_:. /'.",
				k, maxMetadataLength)
		}
		if n := len([]rune(v)); n > maxMetadataLength {
			return invalidInput("Metadata property value of key '%s' has %d characters, more than %d.", k, n, maxMetadataLength)
		}
	}
	return nil
}

// first returns the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ignoring returns nil for errors of a kind.
func ignoring(kind block.Kind, err error) error {
	if block.Is(err, kind) {
		return nil
	}
	return err
}

// closing joins an error with what closing something gave.
func closing(err *error, closer func() error) { *err = errors.Join(*err, closer()) }
