package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"kvol/internal/client"
	"kvol/internal/identity"
)

func userCommand(out *output) *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "Users of the embedded identity service (administrators)",
		Long: `Users, projects and roles of the embedded identity service. Passwords are asked
for on the terminal, or read from standard input where that is no terminal; they
are never taken from the command line.`}
	c.AddCommand(userList(out), userCreate(out), userDelete(), userPassword(), userGrant(), projectCreate(out), userHash())
	return c
}

// readPassword asks on a terminal without echo, or reads one line.
func readPassword(prompt string) (string, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(os.Stderr, prompt)
		p, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		return string(p), err
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line != "" {
		return line, nil
	}
	return "", fmt.Errorf("no password on standard input: %w", err)
}

func userList(out *output) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the users", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			users, err := s.Users(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, u := range users {
				rows = append(rows, table.Row{u.ID, u.Name, u.Enabled})
			}
			return out.rows(c.OutOrStdout(), users, table.Row{"ID", "Name", "Enabled"}, rows)
		})}
}

func userCreate(out *output) *cobra.Command {
	return &cobra.Command{Use: "create NAME", Short: "Make a user; the password is asked for", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			password, err := readPassword("Password of the new user: ")
			if err != nil {
				return err
			}
			u, err := s.CreateUser(ctx, args[0], password)
			if err != nil {
				return err
			}
			return out.one(c.OutOrStdout(), u, [2]any{"id", u.ID}, [2]any{"name", u.Name}, [2]any{"enabled", u.Enabled})
		})}
}

// findUser finds a user by name or id.
func findUser(ctx context.Context, s *client.Session, nameOrID string) (client.User, error) {
	users, err := s.Users(ctx)
	if err != nil {
		return client.User{}, err
	}
	for _, u := range users {
		if u.ID == nameOrID || u.Name == nameOrID {
			return u, nil
		}
	}
	return client.User{}, fmt.Errorf("no user has the name or id %q", nameOrID)
}

func userDelete() *cobra.Command {
	return &cobra.Command{Use: "delete USER", Short: "Delete a user, by name or id", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			u, err := findUser(ctx, s, args[0])
			if err != nil {
				return err
			}
			return s.DeleteUser(ctx, u.ID)
		})}
}

func userPassword() *cobra.Command {
	return &cobra.Command{
		Use:   "password USER",
		Short: "Change a user's password; it is asked for",
		Args:  cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			u, err := findUser(ctx, s, args[0])
			if err != nil {
				return err
			}
			password, err := readPassword("New password: ")
			if err != nil {
				return err
			}
			return s.SetPassword(ctx, u.ID, password)
		}),
	}
}

func userGrant() *cobra.Command {
	return &cobra.Command{Use: "grant USER PROJECT ROLE", Short: "Give a user a role (admin, member, reader) in a project",
		Args: cobra.ExactArgs(3),
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			u, err := findUser(ctx, s, args[0])
			if err != nil {
				return err
			}
			projects, err := s.Projects(ctx)
			if err != nil {
				return err
			}
			for _, p := range projects {
				if p.ID == args[1] || p.Name == args[1] {
					return s.Grant(ctx, p.ID, u.ID, args[2])
				}
			}
			return fmt.Errorf("no project has the name or id %q", args[1])
		})}
}

func projectCreate(out *output) *cobra.Command {
	return &cobra.Command{Use: "project NAME", Short: "Make a project", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			p, err := s.CreateProject(ctx, args[0])
			if err != nil {
				return err
			}
			return out.one(c.OutOrStdout(), p, [2]any{"id", p.ID}, [2]any{"name", p.Name})
		})}
}

func userHash() *cobra.Command {
	return &cobra.Command{Use: "hash", Short: "Print the hash of a password, for password_hash in a configuration file",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			password, err := readPassword("Password: ")
			if err != nil {
				return err
			}
			hash, err := identity.HashPassword(c.Context(), password)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), hash)
			return nil
		}}
}
