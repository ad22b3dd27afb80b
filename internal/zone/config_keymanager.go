package zone

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"kvol/internal/keystore"
)

// KeyManagerConfig is an external Barbican that gets the keys of encrypted
// volumes, where hosts look for them, and the service user that keeps them
// there. Without a URL hosts ask the zone itself.
type KeyManagerConfig struct {
	URL           string `yaml:"url"`      // without /v1, such as http://barbican:9311
	AuthURL       string `yaml:"auth_url"` // of Keystone's v3
	User          string `yaml:"user"`
	Password      string `yaml:"password"`
	Project       string `yaml:"project"`        // a name; the project of each volume if empty
	UserDomain    string `yaml:"user_domain"`    // a name; Default if empty
	ProjectDomain string `yaml:"project_domain"` // a name; Default if empty
	CA            string `yaml:"ca"`             // a file of PEM; the system's authorities if empty
	// Readers are the ids of users who may read the keys besides their project's.
	Readers []string `yaml:"readers"`
}

func (k KeyManagerConfig) check() error {
	if k.URL != "" && (k.AuthURL == "" || k.User == "" || k.Password == "") {
		return errors.New("key_manager: auth_url, user and password are needed where there is a url")
	}
	return nil
}

func (k KeyManagerConfig) client() (*keystore.Barbican, error) {
	c := keystore.BarbicanConfig{URL: k.URL, AuthURL: k.AuthURL, User: k.User, Password: k.Password, Project: k.Project,
		UserDomain: cmp.Or(k.UserDomain, "Default"), ProjectDomain: cmp.Or(k.ProjectDomain, "Default"), Readers: k.Readers}
	if k.CA != "" {
		var err error
		if c.CA, err = os.ReadFile(k.CA); err != nil {
			return nil, fmt.Errorf("key_manager.ca: %w", err)
		}
	}
	b, err := keystore.NewBarbican(c)
	if err != nil {
		return nil, fmt.Errorf("key_manager.ca: %s: %w", k.CA, err)
	}
	return b, nil
}

// newPlacer makes what keeps keys in the external key manager; nil where there is none.
func (s *Server) newPlacer() (*keystore.Placer, error) {
	if s.cfg.KeyManager.URL == "" {
		return nil, nil
	}
	b, err := s.cfg.KeyManager.client()
	if err != nil {
		return nil, err
	}
	return keystore.NewPlacer(s.catalog, s.control.Sealer(), b, s.log), nil
}
