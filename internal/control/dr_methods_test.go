package control_test

// truthMethods are those that show tenants what concerns their own volumes;
// TestHealthOfOthersIsNotShown, TestRTOsAreKeptAndPredict and
// TestDoctorTellsTenantsOfTheirOwn look at them.
var truthMethods = []string{"Health", "DREvents", "RTOs", "Doctor", "Mend", "LastVisit"}

// auditMethods are for administrators; TestAuditLogIsForAdministrators looks at
// them.
var auditMethods = []string{"Audits", "AuditRecords", "VerifyAudit", "AuditHeads", "AcceptAudit"}

// keepMethods pin and hold points of replicas, and look at them; TestOthersKeeps
// and the tests of whole zones look at them.
var keepMethods = []string{"KeepPoint", "ChangeKeep", "ReleaseKeep", "Keeps", "DismissSuspicion",
	"StartVerify"}
