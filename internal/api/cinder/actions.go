package cinder

import "kvol/internal/control"

// volumeActions are the kinds of POST /volumes/{id}/action.
var volumeActions = map[string]action{
	"os-attach":                    {attachBodyOf, attach},
	"os-detach":                    {strict(detachBody), detach},
	"os-reserve":                   {always(anything), plainAction((*control.Service).Reserve)},
	"os-unreserve":                 {always(anything), plainAction((*control.Service).Unreserve)},
	"os-begin_detaching":           {always(anything), plainAction((*control.Service).BeginDetaching)},
	"os-roll_detaching":            {always(anything), plainAction((*control.Service).RollDetaching)},
	"os-force_delete":              {always(anything), plainAction((*control.Service).ForceDeleteVolume)},
	"os-force_detach":              {strict(forceDetachBody), forceDetach},
	"os-initialize_connection":     {strict(initializeBody), initializeConnection},
	"os-terminate_connection":      {strict(terminateBody), terminateConnection},
	"os-extend":                    {strict(extendBody), extend},
	"os-extend_volume_completion":  {always(extendEndBody), completeExtension},
	"os-retype":                    {always(retypeBody), retype},
	"os-migrate_volume":            {migrateBodyOf, migrate},
	"os-migrate_volume_completion": {always(migrateEndBody), completeMigration},
	"os-reset_status":              {strict(resetBody), resetVolume},
	"os-set_bootable":              {strict(bootableBody), setBootable},
	"os-update_readonly_flag":      {strict(readonlyBody), setReadonly},
	"os-volume_upload_image":       {uploadBodyOf, uploadImage},
	"os-set_image_metadata":        {strict(setImageMetadataBody), setImageMetadata},
	"os-show_image_metadata":       {always(anything), showImageMetadata},
	"os-unset_image_metadata":      {strict(imageKeyBody), unsetImageMetadata},
	"os-unmanage":                  {always(anything), plainAction((*control.Service).UnmanageVolume)},
	"revert":                       {always(revertBody), revert},
	"os-reimage":                   {always(reimageBody), reimage},
}

func attachBodyOf(in edition) *schema {
	if in.v3 {
		return attachBody3
	}
	return attachBody
}

// snapshotActions are the kinds of POST /snapshots/{id}/action.
var snapshotActions = map[string]action{
	"os-reset_status":           {strict(resetSnapshotBody), resetSnapshot},
	"os-force_delete":           {always(anything), forceDeleteSnapshot},
	"os-unmanage":               {always(anything), unmanageSnapshot},
	"os-update_snapshot_status": {strict(snapshotStatusBody), updateSnapshotStatus},
}

// newerActions are the microversions 3.N that brought actions.
var newerActions = map[string]int{"revert": 40, "os-reimage": 68, "os-extend_volume_completion": 71}
