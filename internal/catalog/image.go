package catalog

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"kvol/internal/block"
)

// Image is what the catalog knows of an image of the embedded image service.
// Pointers are nullable fields of Glance's API.
type Image struct {
	ID                          block.ImageID
	Owner                       block.ProjectID
	Name                        *string
	Status                      string // queued, saving, active, deactivated, killed
	Visibility                  string // private, shared, public, community
	DiskFormat, ContainerFormat *string
	Protected                   bool
	MinDisk                     int64 // GiB
	MinRAM                      int64 // MiB
	Size                        *int64
	VirtualSize                 *int64
	Checksum                    *string // MD5, hex
	HashValue                   *string // SHA-512, hex
	Tags                        []string
	Properties                  map[string]string
	Upload                      string // names the upload that is under way, and its file; "" if none

	CreatedAt, UpdatedAt time.Time
}

// ImageQuery selects and orders a page of images.
type ImageQuery struct {
	Viewer           block.ProjectID   // sees its own, public and community ones
	All              bool              // sees others' private ones too
	Community        bool              // others' community images are listed; they can be very many
	Filters          map[string]string // API name -> exact text; names that are no column are properties
	Tags             []string          // all of which an image must have
	SizeMin, SizeMax *int64            // bytes
	Sort             []block.SortKey   // newest first where empty; Invalid if a column isn't known
	Marker           block.ImageID     // the last one of the page before; "" for none
	Limit            int               // negative for no limit
}

// imageFilters are the columns that ImageQuery.Filters may name.
var imageFilters = map[string]string{
	"id": "id", "name": "name", "status": "status", "visibility": "visibility", "owner": "owner",
	"disk_format": "disk_format", "container_format": "container_format", "checksum": "checksum",
	"os_hash_value": "hash_value",
}

// imageSorts are the columns that ImageQuery.Sort may name, without NULLs.
var imageSorts = map[string]string{
	"id": "id", "name": "COALESCE(name, '')", "status": "status", "disk_format": "COALESCE(disk_format, '')",
	"container_format": "COALESCE(container_format, '')", "size": "COALESCE(size, 0)",
	"created_at": "created_at", "updated_at": "updated_at",
}

const (
	noImage      = "Failed to find image %s"
	imageColumns = `id, owner, name, status, visibility, disk_format, container_format, protected, min_disk, min_ram,
		size, virtual_size, checksum, hash_value, tags, properties, upload, created_at, updated_at`
)

func scanImage(row scanner) (Image, error) {
	var i Image
	err := row.Scan(&i.ID, &i.Owner, &i.Name, &i.Status, &i.Visibility, &i.DiskFormat, &i.ContainerFormat,
		&i.Protected, &i.MinDisk, &i.MinRAM, &i.Size, &i.VirtualSize, &i.Checksum, &i.HashValue, asJSON(&i.Tags),
		asJSON(&i.Properties), &i.Upload, asTime(&i.CreatedAt), asTime(&i.UpdatedAt))
	return i, err
}

// InsertImage adds an image; both its times become Now. An id that exists is a
// Conflict.
func (tx *Tx) InsertImage(i Image) error {
	_, err := tx.exec(`INSERT INTO images (`+imageColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
		$12, $13, $14, $15, $16, $17, $18, $18)`, i.ID, i.Owner, i.Name, i.Status, i.Visibility, i.DiskFormat,
		i.ContainerFormat, i.Protected, i.MinDisk, i.MinRAM, i.Size, i.VirtualSize, i.Checksum, i.HashValue,
		texts(i.Tags), pairs(i.Properties), i.Upload, micros(tx.Now))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Image ID %s already exists!", i.ID)
	}
	return err
}

// texts is jsonText of a list that is empty, not null, where it is nil.
func texts(list []string) any {
	if list == nil {
		return "[]"
	}
	return jsonText(list)
}

// Image returns an image; NotFound with Glance's sentence.
func (tx *Tx) Image(id block.ImageID) (Image, error) {
	i, err := scanImage(tx.queryRow(`SELECT `+imageColumns+` FROM images WHERE id = $1`, id))
	return i, notFound(err, noImage, id)
}

// UpdateImage changes everything of an image but its id, its owner and the
// time it was made; UpdatedAt becomes Now.
func (tx *Tx) UpdateImage(i Image) error {
	res, err := tx.exec(`UPDATE images SET name = $2, status = $3, visibility = $4, disk_format = $5,
		container_format = $6, protected = $7, min_disk = $8, min_ram = $9, size = $10, virtual_size = $11,
		checksum = $12, hash_value = $13, tags = $14, properties = $15, upload = $16, updated_at = $17 WHERE id = $1`,
		i.ID, i.Name, i.Status, i.Visibility, i.DiskFormat, i.ContainerFormat, i.Protected, i.MinDisk, i.MinRAM,
		i.Size, i.VirtualSize, i.Checksum, i.HashValue, texts(i.Tags), pairs(i.Properties), i.Upload, micros(tx.Now))
	return changed(res, err, noImage, i.ID)
}

// DeleteImage removes an image; NotFound if it is gone.
func (tx *Tx) DeleteImage(id block.ImageID) error {
	res, err := tx.exec(`DELETE FROM images WHERE id = $1`, id)
	return changed(res, err, noImage, id)
}

// ImageBytes is how many bytes the images of a project have together.
func (tx *Tx) ImageBytes(owner block.ProjectID) (sum int64, err error) {
	err = tx.queryRow(`SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM images WHERE owner = $1`, owner).Scan(&sum)
	return sum, err
}

// Images lists images. An unknown marker is NotFound.
func (tx *Tx) Images(q ImageQuery) ([]Image, error) {
	s := &statement{dialect: tx.dialect}
	if !q.All {
		s.and(`(owner = ` + s.arg(q.Viewer) + ` OR visibility IN ('public', 'community'))`)
	}
	if !q.Community {
		s.and(`(visibility <> 'community' OR owner = ` + s.arg(q.Viewer) + `)`)
	}
	for _, name := range slices.Sorted(maps.Keys(q.Filters)) {
		if column, ok := imageFilters[name]; ok {
			s.and(column + ` = ` + s.arg(q.Filters[name]))
		} else {
			s.and(s.hasPair("properties", s.arg(name), s.arg(q.Filters[name])))
		}
	}
	for _, tag := range q.Tags {
		s.and(`tags LIKE ` + s.arg(likeTag(tag)) + ` ESCAPE '!'`)
	}
	if q.SizeMin != nil {
		s.and(`size >= ` + s.arg(*q.SizeMin))
	}
	if q.SizeMax != nil {
		s.and(`size <= ` + s.arg(*q.SizeMax))
	}
	order, err := imageOrder(tx, s, q)
	if err != nil {
		return nil, err
	}
	query := `SELECT ` + imageColumns + ` FROM images`
	if len(s.where) > 0 {
		query += ` WHERE ` + strings.Join(s.where, ` AND `)
	}
	query += order
	if q.Limit >= 0 {
		query += ` LIMIT ` + s.arg(q.Limit)
	}
	return collect(tx, scanImage, query, s.args...)
}

// likeTag is the pattern of a list in JSON that has a tag in it.
func likeTag(tag string) string {
	text, _ := json.Marshal(tag) // a string always has a JSON form
	return `%` + strings.NewReplacer(`!`, `!!`, `%`, `!%`, `_`, `!_`).Replace(string(text)) + `%`
}

// imageOrder returns the ORDER BY of a query and adds the condition that an
// image comes after the marker.
func imageOrder(tx *Tx, s *statement, q ImageQuery) (string, error) {
	keys := q.Sort
	if len(keys) == 0 {
		keys = []block.SortKey{{Column: "created_at", Desc: true}}
	}
	keys = append(slices.Clone(keys), block.SortKey{Column: "id", Desc: keys[0].Desc})
	if q.Marker != "" {
		if _, err := tx.Image(q.Marker); err != nil {
			return "", err
		}
	}
	var order, after []string
	equal := ""
	for _, key := range keys {
		column, ok := imageSorts[key.Column]
		if !ok {
			return "", block.Errorf(block.Invalid, "Invalid sort key: %s.", key.Column)
		}
		direction, beyond := ` ASC`, ` > `
		if key.Desc {
			direction, beyond = ` DESC`, ` < `
		}
		order = append(order, column+direction)
		if q.Marker == "" {
			continue
		}
		last := `(SELECT ` + column + ` FROM images WHERE id = ` + s.arg(q.Marker) + `)`
		after = append(after, `(`+equal+column+beyond+last+`)`)
		equal += column + ` = ` + last + ` AND `
	}
	if len(after) > 0 {
		s.and(`(` + strings.Join(after, ` OR `) + `)`)
	}
	return ` ORDER BY ` + strings.Join(order, `, `), nil
}
