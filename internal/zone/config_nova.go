package zone

import (
	"cmp"
	"fmt"

	"kvol/internal/compute"
)

// NovaConfig is the Nova that is told when a volume grows which its servers use,
// and the service user that tells it. Without a URL none is told.
type NovaConfig struct {
	URL           string `yaml:"url"`      // such as http://nova:8774/v2.1
	AuthURL       string `yaml:"auth_url"` // of Keystone's v3
	User          string `yaml:"user"`
	Password      string `yaml:"password"`
	Project       string `yaml:"project"`
	UserDomain    string `yaml:"user_domain"`    // a name; Default if empty
	ProjectDomain string `yaml:"project_domain"` // a name; Default if empty
}

func (n NovaConfig) check() error {
	if n.URL != "" && (n.AuthURL == "" || n.User == "" || n.Password == "" || n.Project == "") {
		return fmt.Errorf("nova: auth_url, user, password and project are needed where there is a url")
	}
	return nil
}

func (n NovaConfig) client() compute.Config {
	return compute.Config{URL: n.URL, AuthURL: n.AuthURL, User: n.User, Password: n.Password, Project: n.Project,
		UserDomain: cmp.Or(n.UserDomain, "Default"), ProjectDomain: cmp.Or(n.ProjectDomain, "Default")}
}
