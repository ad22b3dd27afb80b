package block

// Reencryption is a volume's way to another encryption. Its clear content is
// copied, and then the copy takes the volume's place.
type Reencryption struct {
	Volume     VolumeID
	Job        JobID    // which copies
	Copy       VolumeID // what the copy is called in its store: the volume's own id on another store
	Backend    string   // where it is
	Encryption *VolumeEncryption
	Phase      ReencryptionPhase
}

// ReencryptionPhase says what is true of a volume that is encrypted anew.
type ReencryptionPhase string

// The phases of a Reencryption, in their order.
const (
	// ReencryptionCopies means that the volume is what it was, and the copy may go.
	ReencryptionCopies ReencryptionPhase = "copying"
	// ReencryptionSwaps means that the copy is the volume's content, and what lies
	// under the volume's own id is not.
	ReencryptionSwaps ReencryptionPhase = "swapping"
	// ReencryptionDone means that the volume is what the copy was.
	ReencryptionDone ReencryptionPhase = "done"
)
