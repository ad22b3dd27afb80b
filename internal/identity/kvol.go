package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// DefaultKvolUser is the user name that the kvol document fixes.
const DefaultKvolUser = "gabianet"

// defaultKvolTTL is how long a token of the kvol API is good for.
const defaultKvolTTL = time.Hour

// KvolUser is a user of the kvol API; they are none of the identity service.
// One of Password and PasswordHash is set; Name is DefaultKvolUser if empty.
type KvolUser struct {
	Name         string
	Password     string
	PasswordHash string
}

// KvolConfig is what the tokens of the kvol API start with.
type KvolConfig struct {
	Users    []KvolUser
	TokenTTL time.Duration // 1 h if zero
	Guesses  GuessLimits
	Cost     Cost
	Now      func() time.Time // time.Now if nil
}

// Kvol gives out and checks the tokens of the kvol API, with which its callers
// log in by HTTP Basic authentication in place of a password. Its methods may
// be called at once.
type Kvol struct {
	catalog *catalog.Catalog
	config  KvolConfig
	hasher  *hasher
	guard   *guard
}

// NewKvol makes a Kvol over a catalog. Nothing is written before Seed.
func NewKvol(c *catalog.Catalog, config KvolConfig) (*Kvol, error) {
	if c == nil {
		return nil, errors.New("identity: no catalog")
	}
	if config.TokenTTL == 0 {
		config.TokenTTL = defaultKvolTTL
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	for i, u := range config.Users {
		if u.Name == "" {
			config.Users[i].Name = DefaultKvolUser
		}
		if u.PasswordHash == "" {
			continue
		}
		if err := CheckHash(u.PasswordHash); err != nil {
			return nil, block.Wrap(block.Invalid, err, "kvol user %s has an unreadable password hash", u.Name)
		}
	}
	return &Kvol{catalog: c, config: config, hasher: newHasher(config.Cost),
		guard: newGuard(config.Guesses, config.Now)}, nil
}

// Seed brings the catalog up to the configuration. Users that are configured
// no more, and users whose password changed, lose their tokens.
func (k *Kvol) Seed(ctx context.Context) error {
	var stored map[string]string
	err := k.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		stored, err = tx.KvolUsers()
		return err
	})
	if err != nil {
		return err
	}
	want := map[string]string{}
	for _, u := range k.config.Users {
		if want[u.Name], err = k.hasher.keep(ctx, stored[u.Name], u.Password, u.PasswordHash); err != nil {
			return block.Wrap(block.KindOf(err), err, "kvol user %s: its password could not be hashed", u.Name)
		}
	}
	return k.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for name := range stored {
			if _, ok := want[name]; ok {
				continue
			}
			if err := tx.DeleteKvolUser(name); err != nil {
				return err
			}
		}
		for name, hash := range want {
			if stored[name] == hash {
				continue
			}
			if err := tx.PutKvolUser(name, hash); err != nil {
				return err
			}
		}
		return nil
	})
}

// Issue checks a user's password and gives out a token. remote is the client's
// address. Unauthorized for an unknown user or a wrong password, OverLimit (see
// RetryAfter) after too many failures.
func (k *Kvol) Issue(ctx context.Context, user, password, remote string) (token string, expires time.Time, err error) {
	try, err := k.guard.begin(tokenHash(user), remote)
	if err != nil {
		return "", time.Time{}, err
	}
	var stored string
	err = k.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		stored, err = tx.KvolUser(user)
		return err
	})
	if err != nil && !block.Is(err, block.NotFound) {
		try.forgive()
		return "", time.Time{}, err
	}
	ok, err := k.hasher.verify(ctx, stored, password)
	if err != nil {
		try.forgive()
		return "", time.Time{}, err
	}
	if !ok {
		return "", time.Time{}, errUnauthorized
	}
	try.succeed()
	token, hash := newToken()
	err = k.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, err := tx.KvolUser(user)
		if block.Is(err, block.NotFound) || err == nil && now != stored {
			return errUnauthorized // changed while the password was being looked at
		}
		if err != nil {
			return err
		}
		expires = tx.Now.Add(k.config.TokenTTL).Truncate(time.Second)
		return tx.InsertKvolToken(catalog.KvolToken{Hash: hash, User: user, IssuedAt: tx.Now, ExpiresAt: expires})
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return token, expires, nil
}

// Check reports, as Unauthorized, a token that is unknown or expired or that
// another user was given.
func (k *Kvol) Check(ctx context.Context, user, token string) error {
	if token == "" || len(token) > maxTokenBytes {
		return errUnauthorized
	}
	var t catalog.KvolToken
	err := k.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		t, err = tx.KvolToken(tokenHash(token))
		return err
	})
	if block.Is(err, block.NotFound) {
		return errUnauthorized
	}
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(t.User), []byte(user)) != 1 {
		return errUnauthorized
	}
	return nil
}
