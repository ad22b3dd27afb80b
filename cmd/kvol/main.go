// Command kvol runs a zone of a cloud's block storage (kvol serve), shows what
// it can do on one machine (kvol demo), and is a client of its APIs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // hours of limits and of the kvol API go by zones that a small machine may lack

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kvol: "+err.Error())
		stop()
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "kvol",
		Short: "Block storage for clouds of several zones, with disaster recovery built in",
		Long: `kvol gives each zone of a cloud a block storage service, and keeps its volumes
alive when a whole zone dies.

Run a zone:      kvol serve --config zone.yaml
See it work:     kvol demo
Use a zone:      kvol volume list      (after: source openrc-<zone>)

The client commands log in as OpenStack's do: to the cloud OS_CLOUD of clouds.yaml,
or as the environment says: OS_AUTH_URL, OS_USERNAME, OS_PASSWORD (or OS_TOKEN, or
OS_APPLICATION_CREDENTIAL_ID and _SECRET), OS_PROJECT_NAME or OS_PROJECT_ID (or
OS_SYSTEM_SCOPE=all), OS_REGION_NAME. The kvol API behind "kvol dr" also wants
KVOL_URL, KVOL_USER and KVOL_PASSWORD.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	var out output
	c.PersistentPreRunE = func(*cobra.Command, []string) error { return out.check() } // before anything is begun
	c.PersistentFlags().StringVarP(&out.format, "output", "o", "table", "how to print: table or json")
	c.AddCommand(serveCommand(), demoCommand(), versionCommand(), userCommand(&out), tokenCommand(&out), typeCommand(&out),
		volumeCommand(&out), snapshotCommand(&out), imageCommand(&out), drCommand(&out), storeCommand(&out), catalogCommand(),
		processesCommand(&out))
	return c
}
