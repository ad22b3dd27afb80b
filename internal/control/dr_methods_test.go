package control_test

// truthMethods are those that show tenants what concerns their own volumes;
// TestHealthOfOthersIsNotShown, TestRTOsAreKeptAndPredict and
// TestDoctorTellsTenantsOfTheirOwn look at them.
var truthMethods = []string{"Health", "DREvents", "RTOs", "Doctor", "Mend"}
