package cinder

import "net/http"

// listClusters, showCluster and updateCluster answer as a Cinder that has no
// clusters.
func listClusters(c *call) error {
	if err := c.s.cfg.Control.MayAdminister(c.r.Context(), c.caller, "clusters:get_all"); err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string][]any{"clusters": {}})
}

func showCluster(c *call) error {
	if err := c.s.cfg.Control.MayAdminister(c.r.Context(), c.caller, "clusters:get"); err != nil {
		return err
	}
	return &fault{http.StatusNotFound, "Cluster " + c.r.PathValue("name") + " could not be found."}
}

func updateCluster(c *call) error {
	if err := c.s.cfg.Control.MayAdminister(c.r.Context(), c.caller, "clusters:update"); err != nil {
		return err
	}
	if what := c.r.PathValue("name"); what != "enable" && what != "disable" {
		return &fault{http.StatusNotFound, "Unknown action"}
	}
	o, err := c.checked("body", anything)
	if err != nil {
		return err
	}
	name := o.text("name")
	if name == nil {
		return invalid("Invalid input for field/attribute body. 'name' is a required property")
	}
	return &fault{http.StatusNotFound, "Cluster " + *name + " could not be found."}
}

// cleanWorkers finds no service whose work would have to be taken over: a
// process of a zone takes up its jobs itself when it starts.
func cleanWorkers(c *call) error {
	if err := c.s.cfg.Control.MayAdminister(c.r.Context(), c.caller, "workers:cleanup"); err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, map[string][]any{"cleaning": {}, "unavailable": {}})
}
