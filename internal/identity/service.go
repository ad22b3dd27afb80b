package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Config is what an identity service starts with.
type Config struct {
	Region    string
	PublicURL string // how users reach the zone; taken from each request if empty
	Prefix    string // where Handler is mounted; "/identity" if empty

	Projects []Project
	Users    []User
	Catalog  []Endpoint // what the service catalog names

	TokenTTL time.Duration // 12 h if zero
	Guesses  GuessLimits
	Cost     Cost

	Now func() time.Time // time.Now if nil
	Log *slog.Logger     // discarded if nil
}

// Project is a tenant. One that the configuration names without an ID gets one
// that is derived from its name, so that all zones give it the same.
type Project struct {
	ID          block.ProjectID
	Name        string
	Description string
	Disabled    bool
}

// User is a user. In a configuration, one of Password and PasswordHash (PHC
// form, see HashPassword) is set, a user without both can't log in, and one
// without an ID gets one that is derived from its name. Read back, it has
// neither password nor hash.
type User struct {
	ID           block.UserID
	Name         string
	Description  string
	Password     string
	PasswordHash string
	Roles        []RoleIn
	Disabled     bool
}

// RoleIn gives a user a role in a project: the project by name or id, the role
// by name.
type RoleIn struct {
	Project string
	Role    string
}

const defaultTokenTTL = 12 * time.Hour

// sweepEvery is how often Run removes what has expired.
const sweepEvery = 10 * time.Minute

// Service is the embedded identity service. Its methods may be called at once.
type Service struct {
	catalog *catalog.Catalog
	config  Config
	hasher  *hasher
	guard   *guard
	cache   *callerCache
	now     func() time.Time
	log     *slog.Logger
}

// New makes a service over a catalog. Nothing is written before Seed.
func New(c *catalog.Catalog, config Config) (*Service, error) {
	if c == nil {
		return nil, errors.New("identity: no catalog")
	}
	if config.TokenTTL == 0 {
		config.TokenTTL = defaultTokenTTL
	}
	if config.Prefix == "" {
		config.Prefix = "/identity"
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	config.Prefix = "/" + strings.Trim(config.Prefix, "/")
	config.PublicURL = strings.TrimRight(config.PublicURL, "/")
	for _, u := range config.Users {
		if u.PasswordHash == "" {
			continue
		}
		if err := CheckHash(u.PasswordHash); err != nil {
			return nil, block.Wrap(block.Invalid, err, "user %s has an unreadable password hash", u.Name)
		}
	}
	return &Service{
		catalog: c, config: config,
		hasher: newHasher(config.Cost),
		guard:  newGuard(config.Guesses, config.Now),
		cache:  newCallerCache(config.Now),
		now:    config.Now, log: config.Log,
	}, nil
}

// Run removes expired tokens now and then until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("expired tokens could not be removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep removes expired tokens of both kinds. They are refused without it too.
func (s *Service) Sweep(ctx context.Context) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.SweepTokens() })
}

// derivedID is the id of something that the configuration names without one:
// 32 hex digits, the same in every zone and after every start.
func derivedID(kind, name string) string {
	sum := sha256.Sum256([]byte("kvol " + kind + " " + name))
	return hex.EncodeToString(sum[:16])
}
