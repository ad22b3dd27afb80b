package nbd

// Numbers of the protocol, by the names that its document gives them
// (NetworkBlockDevice/nbd, doc/proto.md).
const (
	magicInit       = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOptReply   = 0x3e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

// Handshake flags, of both sides.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

type option uint32

const (
	optExportName      option = 1
	optAbort           option = 2
	optList            option = 3
	optStartTLS        option = 5
	optInfo            option = 6
	optGo              option = 7
	optStructuredReply option = 8
	optListMetaContext option = 9
	optSetMetaContext  option = 10
)

type optReply uint32

const (
	repAck         optReply = 1
	repInfo        optReply = 3
	repMetaContext optReply = 4
	repErrUnsup    optReply = 1<<31 + 1
	repErrPolicy   optReply = 1<<31 + 2
	repErrInvalid  optReply = 1<<31 + 3
	repErrTLSReqd  optReply = 1<<31 + 5
	repErrUnknown  optReply = 1<<31 + 6
	repErrShutdown optReply = 1<<31 + 7
	repErrTooBig   optReply = 1<<31 + 9
)

// Kinds of information about an export (NBD_INFO_*).
const (
	infoExport      = 0
	infoName        = 1
	infoDescription = 2
	infoBlockSize   = 3
)

// Transmission flags.
const (
	flagHasFlags        = 1 << 0
	flagReadOnly        = 1 << 1
	flagSendFlush       = 1 << 2
	flagSendFUA         = 1 << 3
	flagSendTrim        = 1 << 5
	flagSendWriteZeroes = 1 << 6
	flagSendDF          = 1 << 7
	flagCanMultiConn    = 1 << 8
	flagSendCache       = 1 << 10
	flagSendFastZero    = 1 << 11
)

type command uint16

const (
	cmdRead        command = 0
	cmdWrite       command = 1
	cmdDisc        command = 2
	cmdFlush       command = 3
	cmdTrim        command = 4
	cmdCache       command = 5
	cmdWriteZeroes command = 6
	cmdBlockStatus command = 7
)

// Command flags.
const (
	flagFUA      = 1 << 0
	flagNoHole   = 1 << 1
	flagDF       = 1 << 2
	flagReqOne   = 1 << 3
	flagFastZero = 1 << 4
)

// commandFlags tells which flags each command takes. FUA is taken everywhere
// since the server offers it; it means something where bytes are changed.
var commandFlags = map[command]uint16{
	cmdRead:        flagFUA | flagDF,
	cmdWrite:       flagFUA,
	cmdDisc:        flagFUA,
	cmdFlush:       flagFUA,
	cmdTrim:        flagFUA,
	cmdCache:       flagFUA,
	cmdWriteZeroes: flagFUA | flagNoHole | flagFastZero,
	cmdBlockStatus: flagFUA | flagReqOne,
}

// Types of chunks of a structured reply, and their flag.
const (
	chunkNone        = 0
	chunkOffsetData  = 1
	chunkOffsetHole  = 2
	chunkBlockStatus = 5
	chunkError       = 1<<15 + 1

	chunkDone = 1 << 0
)

// The context base:allocation and its states.
const (
	baseAllocation = "base:allocation"
	baseContextID  = 1
	stateHole      = 1 << 0
	stateZero      = 1 << 1
)

// errno is an error number of the protocol.
type errno uint32

const (
	errNone     errno = 0
	errPerm     errno = 1
	errIO       errno = 5
	errInvalid  errno = 22
	errNoSpace  errno = 28
	errNotSup   errno = 95
	errShutdown errno = 108
)

// Sizes of messages, in bytes.
const (
	optionHeader     = 16
	optReplyHeader   = 20
	requestHeader    = 28
	simpleHeader     = 16
	structuredHeader = 20
	offsetDataHeader = structuredHeader + 8
	exportNamePad    = 124
)
