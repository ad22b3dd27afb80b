package control

import (
	"slices"

	"kvol/internal/block"
)

// serviceRole is the role whose holders speak for the compute service
// (keystonemiddleware's service_token_roles).
const serviceRole = "service"

// mayDetach refuses to take a volume from under a server unless the compute
// service itself asks, which says so by its service token: what a guest still
// has open could otherwise become another volume's (CVE-2023-2088;
// cinder/volume/api.py, attachment_deletion_allowed). A nil id means the only
// attachment there is. No compute service is asked whether the server is still
// there: an operator frees such a volume by os-reset_status.
func mayDetach(c block.Caller, v block.Volume, id *block.AttachmentID) error {
	if slices.Contains(c.ServiceRoles, serviceRole) {
		return nil
	}
	if id == nil && len(v.Attachments) == 0 {
		return nil
	}
	server := ""
	for _, a := range v.Attachments {
		if id != nil && a.ID != *id || id == nil && len(v.Attachments) > 1 {
			continue
		}
		if a.ServerID == nil || a.ConnectionID == "" {
			return nil
		}
		server = *a.ServerID
	}
	return block.Errorf(block.Conflict,
		"ConflictNovaUsingAttachment: Detach volume from instance %s using the Compute API", server)
}
