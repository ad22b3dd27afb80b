package control

import (
	"context"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/luks"
	"kvol/internal/placement"
)

// CreateVolume states the intent to make a volume: empty, or of a snapshot, a
// volume or an image. It returns the row, "creating"; a job does the rest. The
// rules are those of cinder/volume/flows/api/create_volume.py.
func (s *Service) CreateVolume(ctx context.Context, c block.Caller, req NewVolume) (block.Volume, error) {
	if err := first(mayMake(c, "volume:create"), checkMetadata(req.Metadata)); err != nil {
		return block.Volume{}, err
	}
	args := createArgs{asker: s.asker(c)}
	if err := s.measureRooms(ctx); err != nil {
		return block.Volume{}, err
	}
	var image *Image
	if req.ImageRef != nil {
		if err := mayWrite(c, "volume:create_from_image"); err != nil {
			return block.Volume{}, err
		}
		img, err := s.findImage(ctx, c, *req.ImageRef)
		if err := first(err, s.checkSigned(img)); err != nil {
			return block.Volume{}, err
		}
		image, args.Image = &img, img.ID
	}
	var made block.Volume
	var at placed
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, t, place, err := s.planVolume(tx, c, req, image)
		if err != nil {
			return err
		}
		if at = place.placed; len(s.backends.Backends()) > 1 {
			args.Place = &place.request // another backend may be found if this one fails
		}
		if err := first(checkTypeSize(t, v.Size), checkVolumeSize(tx, v.Project, v.Size),
			checkQuota(tx, v.Project, volumeDelta(1, v.Size, v.TypeName))); err != nil {
			return err
		}
		if err := first(tx.InsertVolume(v), beginCreate(tx, v, req, args)); err != nil {
			return err
		}
		made, err = tx.Volume(v.ID)
		return err
	})
	if err == nil {
		s.tellPlaced(ctx, at)
		s.changed(made.ID)
	}
	return made, err
}

// beginCreate enqueues the job that makes a volume's bytes.
func beginCreate(tx *catalog.Tx, v block.Volume, req NewVolume, args createArgs) error {
	if req.BackupID == nil {
		j := block.Job{Kind: jobVolumeCreate, Subject: string(v.ID)}
		var err error
		if j.Beside, err = madeOf(tx, v); err != nil {
			return err
		}
		return enqueueBeside(tx, j, args)
	}
	b, err := tx.Backup(*req.BackupID)
	if err != nil {
		return err
	}
	return beginRestore(tx, b, v.ID, true, args.Place)
}

// madeOf is the backend of what a volume is made of; "" for none.
func madeOf(tx *catalog.Tx, v block.Volume) (backend string, err error) {
	source := v.SourceVolumeID
	if v.SnapshotID != nil {
		sn, err := tx.Snapshot(*v.SnapshotID)
		if err != nil {
			return "", err
		}
		source = &sn.VolumeID
	}
	if source == nil {
		return "", nil
	}
	from, err := tx.Volume(*source)
	return from.Backend, err
}

const ruleMultiattach = "volume:multiattach"

// planVolume works out the row of a new volume from what was asked for and
// where its content comes from.
func (s *Service) planVolume(tx *catalog.Tx, c block.Caller, req NewVolume,
	image *Image) (v block.Volume, t *block.VolumeType, at newPlace, err error) {
	origin, err := originOf(tx, c, req)
	if err != nil {
		return v, nil, at, err
	}
	v = block.Volume{
		ID: block.VolumeID(block.NewID()), Project: c.Project, User: c.User, Name: req.Name, Description: req.Description,
		Status: block.VolumeCreating, SnapshotID: req.SnapshotID, SourceVolumeID: req.SourceVolumeID, Epoch: 1,
		Multiattach: req.Multiattach, Metadata: merged(req.Metadata, nil, false), ReplicationStatus: "disabled",
		Bootable: origin.bootable, ImageMetadata: origin.imageMetadata,
	}
	if v.Size, err = sizeOf(req, origin, image); err != nil {
		return v, nil, at, err
	}
	if t, err = s.typeFor(tx, c, askedType(req, image), origin); err != nil {
		return v, nil, at, err
	}
	zones, err := s.zonesFor(req.AvailabilityZone, t)
	if err != nil {
		return v, nil, at, err
	}
	if len(zones) > 0 {
		v.AvailabilityZone = zones[0]
	}
	if t != nil {
		v.TypeID, v.TypeName = t.ID, t.Name
		v.Multiattach = v.Multiattach || t.ExtraSpecs["multiattach"] == isTrue
	}
	if v.Multiattach {
		if err := mayWrite(c, ruleMultiattach); err != nil {
			return v, nil, at, err
		}
	}
	if s.protected(v.TypeID) {
		v.ReplicationStatus = "enabled"
	}
	if err := s.joinGroup(tx, c, req, &v); err != nil {
		return v, nil, at, err
	}
	if v.GroupID != nil {
		zones = []string{v.AvailabilityZone}
	}
	at.request, at.placed, err = s.placeNew(tx, c, req, &v, t, origin, zones)
	return v, t, at, first(err, s.encrypt(tx, c, &v, t, origin, image))
}

// newPlace is what place a new volume wants, and which it got.
type newPlace struct {
	request placement.Request
	placed  placed
}

// origin is what a new volume takes from where its content comes from.
type origin struct {
	what          string // "snapshot", "original volume" or "backup"; "" for none of them
	size          int64
	typeID        block.TypeID
	bootable      bool
	imageMetadata map[string]string
	encryption    *block.VolumeEncryption
	backend       string // where it lies; "" for a backup
}

// originOf finds the snapshot or volume that a new one is made of, and checks
// that it may be read now.
func originOf(tx *catalog.Tx, c block.Caller, req NewVolume) (origin, error) {
	sources := 0
	for _, given := range []bool{req.SnapshotID != nil, req.SourceVolumeID != nil, req.ImageRef != nil,
		req.BackupID != nil} {
		if given {
			sources++
		}
	}
	switch {
	case req.SnapshotID != nil:
		sn, err := snapshotOf(tx, c, *req.SnapshotID)
		if err != nil {
			return origin{}, err
		}
		if sn.Status != block.SnapshotAvailable {
			return origin{}, invalidSnapshot("Originating snapshot status must be one of 'available' values")
		}
		v, err := tx.Volume(sn.VolumeID)
		if err != nil {
			return origin{}, err
		}
		return origin{"snapshot", sn.Size, v.TypeID, v.Bootable, v.ImageMetadata, v.Encryption, v.Backend},
			onlyOne(sources)
	case req.SourceVolumeID != nil:
		v, err := volumeOf(tx, c, *req.SourceVolumeID)
		if err != nil {
			return origin{}, err
		}
		if v.Status != block.VolumeAvailable && v.Status != block.VolumeInUse {
			return origin{}, invalidVolume("Originating source volume status must be one of 'available, in-use' values")
		}
		return origin{"original volume", v.Size, v.TypeID, v.Bootable, v.ImageMetadata, v.Encryption, v.Backend},
			onlyOne(sources)
	case req.BackupID != nil:
		from, err := backupOrigin(tx, c, *req.BackupID)
		return from, first(err, onlyOne(sources))
	}
	return origin{}, nil
}

func onlyOne(sources int) error {
	if sources > 1 {
		return invalidInput("May specify only one of backup, imageRef, snapshot, source volume")
	}
	return nil
}

// sizeOf is a new volume's size in GiB.
func sizeOf(req NewVolume, from origin, image *Image) (int64, error) {
	size := from.size
	switch {
	case req.Size != nil:
		size = *req.Size
	case from.what == "":
		return 0, block.Errorf(block.Invalid, "The server could not comply with the request since it is either "+
			"malformed or otherwise incorrect.")
	}
	if size < 1 || size > maxSize {
		return 0, invalidInput("Volume size '%d' must be an integer and greater than 0", size)
	}
	switch {
	case from.what == "snapshot" && size < from.size:
		return 0, invalidInput("Volume size '%d'GB cannot be smaller than the snapshot size %dGB. "+
			"They must be >= original snapshot size.", size, from.size)
	case from.what == "original volume" && size < from.size:
		return 0, invalidInput("Volume size '%d'GB cannot be smaller than original volume size  %dGB. "+
			"They must be >= original volume size.", size, from.size)
	case from.what == "backup" && size < from.size:
		return 0, invalidInput("Volume size '%d'GB cannot be smaller than the backup size %dGB. "+
			"They must be >= original backup size.", size, from.size)
	case image != nil:
		return size, checkImageFits(*image, size)
	}
	return size, nil
}

// checkImageFits refuses an image that can't be read or does not fit into a
// volume of size GiB.
func checkImageFits(img Image, size int64) error {
	if img.Status != "active" {
		return invalidInput("Image %s is not active.", img.ID)
	}
	if img.ContainerFormat == "compressed" {
		return invalidInput("Image %s is unacceptable: Image compression disallowed, but container_format is compressed.",
			img.ID)
	}
	if gib := gibs(stored(img)); gib > size {
		return invalidInput("Size of specified image %dGB is larger than volume size %dGB.", gib, size)
	}
	if img.MinDisk > size {
		return invalidInput("Volume size %dGB cannot be smaller than the image minDisk size %dGB.", size, img.MinDisk)
	}
	if gib := gibs(img.VirtualSize); gib > size {
		return tooLarge(gib, size)
	}
	return nil
}

// stored is how many bytes of an image a volume takes at least: the zone keeps
// the header of an encrypted one elsewhere.
func stored(img Image) int64 {
	if img.Properties[imageKeyProperty] != "" {
		return img.Size - luks.HeaderSize
	}
	return img.Size
}

func tooLarge(imageGiB, volumeGiB int64) error {
	return invalidInput("Image virtual size is %dGB and doesn't fit in a volume of size %dGB.", imageGiB, volumeGiB)
}

// gibs is the number of GiB that hold so many bytes.
func gibs(bytes int64) int64 { return (bytes + block.GiB - 1) / block.GiB }

// findImage finds the image that a reference means: an id, a name, or a URL
// that ends in the id.
func (s *Service) findImage(ctx context.Context, c block.Caller, ref string) (Image, error) {
	refused := block.Errorf(block.Invalid, "Invalid image identifier or unable to access requested image.")
	name := strings.TrimRight(ref, "/")
	if strings.Contains(name, "://") {
		name = name[strings.LastIndexByte(name, '/')+1:]
	}
	if s.cfg.Images == nil || name == "" {
		return Image{}, refused
	}
	img, err := s.cfg.Images.Find(ctx, c, name)
	if block.Is(err, block.NotFound) || block.Is(err, block.Forbidden) || block.Is(err, block.Conflict) {
		return Image{}, refused
	}
	return img, err
}

// availabilityZone is where a new volume of a type lies: the first of zonesFor.
func (s *Service) availabilityZone(asked *string, t *block.VolumeType) (string, error) {
	zones, err := s.zonesFor(asked, t)
	if err != nil || len(zones) == 0 {
		return "", err
	}
	return zones[0], nil
}

// zonesFor are the availability zones in which a new volume of a type may lie:
// the one that was asked for, else those that its extra specs name, else the
// default.
func (s *Service) zonesFor(asked *string, t *block.VolumeType) ([]string, error) {
	zones := s.cfg.AvailabilityZones
	own, limited := typeZones(t)
	if limited {
		zones = slices.DeleteFunc(slices.Clone(zones), func(name string) bool { return !slices.Contains(own, name) })
		if len(zones) == 0 {
			return nil, block.Errorf(block.Invalid, "Volume type is only supported in these availability zones: ['%s']",
				strings.Join(own, "', '"))
		}
	}
	if asked == nil || *asked == "" {
		if !limited && len(zones) > 1 {
			zones = zones[:1]
		}
		return zones, nil
	}
	if !slices.Contains(zones, *asked) {
		return nil, block.Errorf(block.Invalid, "Availability zone '%s' is invalid.", *asked)
	}
	return []string{*asked}, nil
}

// typeZones are the availability zones that a type is limited to
// (cinder/volume/volume_utils.py, extract_availability_zones_from_volume_type).
func typeZones(t *block.VolumeType) (zones []string, limited bool) {
	if t == nil {
		return nil, false
	}
	text, limited := t.ExtraSpecs["RESKEY:availability_zones"]
	for name := range strings.SplitSeq(text, ",") {
		if name != "" {
			zones = append(zones, strings.TrimSpace(name))
		}
	}
	return zones, limited
}

// typeFor is a new volume's type: the one that was named, else that of its
// origin, else the default; nil for none.
func (s *Service) typeFor(tx *catalog.Tx, c block.Caller, asked *string, from origin) (*block.VolumeType, error) {
	switch {
	case asked != nil && *asked != "":
		t, err := typeOf(tx, c, *asked)
		return &t, err
	case from.what != "" && from.what != "backup":
		return typeByID(tx, from.typeID)
	}
	return s.defaultType(tx, c.Project)
}

// protected reports whether volumes of a type are replicated from here.
func (s *Service) protected(t block.TypeID) bool {
	if s.cfg.Protections == nil || t == "" {
		return false
	}
	for _, p := range s.cfg.Protections() {
		if p.Enabled && p.SourceZone == s.cfg.Zone && p.SourceType == t {
			return true
		}
	}
	return false
}
