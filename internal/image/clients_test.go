package image

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"kvol/internal/block"
	"kvol/internal/control"
)

func client(base string, c block.Caller) *gophercloud.ServiceClient {
	provider := &gophercloud.ProviderClient{TokenID: c.UserName}
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: base + "/image/",
		ResourceBase: base + "/image/v2/", Type: "image"}
}

// gophercloud makes, fills, changes, reads and deletes an image.
func TestGophercloud(t *testing.T) {
	gc := client(serve(t, newPlace(t).open(t, Config{})), alice)
	ctx := t.Context()
	private := images.ImageVisibilityPrivate
	made, err := images.Create(ctx, gc, images.CreateOpts{Name: "disk", DiskFormat: "raw", ContainerFormat: "bare",
		MinDisk: 2, Visibility: &private, Tags: []string{"b", "a"}, Properties: map[string]string{"os_type": "linux"}}).
		Extract()
	if err != nil {
		t.Fatal(err)
	}
	if made.Status != images.ImageStatusQueued || made.Owner != "alices" || made.Properties["os_type"] != "linux" {
		t.Errorf("made: %+v", made)
	}
	if err := imagedata.Upload(ctx, gc, made.ID, strings.NewReader("the disk's bytes")).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	got, err := images.Get(ctx, gc, made.ID).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != images.ImageStatusActive || got.SizeBytes != 16 || got.MinDiskGigabytes != 2 ||
		!slices.Equal(got.Tags, []string{"a", "b"}) || got.Visibility != private || got.CreatedAt.IsZero() {
		t.Errorf("got %+v", got)
	}
	r, err := imagedata.Download(ctx, gc, made.ID).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "the disk's bytes" {
		t.Errorf("downloaded %q, %v", text, err)
	}
	changed, err := images.Update(ctx, gc, made.ID, images.UpdateOpts{
		images.ReplaceImageName{NewName: "renamed"}, images.ReplaceImageProtected{NewProtected: true},
		images.ReplaceImageTags{NewTags: []string{"c"}},
		images.UpdateImageProperty{Op: images.AddOp, Name: "hw_disk_bus", Value: "virtio"},
		images.UpdateImageProperty{Op: images.RemoveOp, Name: "os_type"}}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if changed.Name != "renamed" || !changed.Protected || changed.Properties["hw_disk_bus"] != "virtio" ||
		changed.Properties["os_type"] != nil || !slices.Equal(changed.Tags, []string{"c"}) {
		t.Errorf("changed: %+v", changed)
	}
	if err := images.Delete(ctx, gc, made.ID).ExtractErr(); !gophercloud.ResponseCodeIs(err, 403) {
		t.Errorf("delete while protected: %v", err)
	}
	off := images.UpdateOpts{images.ReplaceImageProtected{NewProtected: false}}
	if _, err := images.Update(ctx, gc, made.ID, off).Extract(); err != nil {
		t.Fatal(err)
	}
	if err := images.Delete(ctx, gc, made.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if _, err := images.Get(ctx, gc, made.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("get after delete: %v", err)
	}
}

// gophercloud's pager sees each image once, in the order it asks for, whatever
// the page.
func TestGophercloudPages(t *testing.T) {
	s := newPlace(t).open(t, Config{})
	base := serve(t, s)
	for _, name := range []string{"d", "a", "c", "e", "b", "a", ""} {
		mustCreate(t, s, alice, control.Image{Name: name})
	}
	mustCreate(t, s, bob, control.Image{Name: "bobs"})
	mustCreate(t, s, bob, control.Image{Name: "everybody's", Visibility: "community"})
	list := func(c block.Caller, opts images.ListOpts) string {
		t.Helper()
		pages, err := images.List(client(base, c), opts).AllPages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all, err := images.ExtractImages(pages)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range all {
			names = append(names, i.Name)
		}
		return strings.Join(names, ",")
	}
	for _, c := range []struct {
		who  block.Caller
		opts images.ListOpts
		want string
	}{
		{alice, images.ListOpts{}, ",a,b,e,c,a,d"},
		{alice, images.ListOpts{Limit: 2}, ",a,b,e,c,a,d"},
		{alice, images.ListOpts{Limit: 3, Sort: "name:asc"}, ",a,a,b,c,d,e"},
		{alice, images.ListOpts{Limit: 1, SortKey: "name", SortDir: "desc"}, "e,d,c,b,a,a,"},
		{alice, images.ListOpts{Name: "a"}, "a,a"},
		{alice, images.ListOpts{Status: images.ImageStatusActive}, ""},
		{alice, images.ListOpts{Visibility: images.ImageVisibilityCommunity}, "everybody's"},
		{bob, images.ListOpts{}, "everybody's,bobs"},
		{root, images.ListOpts{Owner: "bobs", Visibility: images.ImageVisibilityShared}, "bobs"},
	} {
		if got := list(c.who, c.opts); got != c.want {
			t.Errorf("%s with %+v: %q, want %q", c.who.UserName, c.opts, got, c.want)
		}
	}
}
