// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
]

/// A room of the house: its name and the rooms below it that it may use.
func room(_ name: String, _ below: String...) -> Target {
    .target(name: name, dependencies: below.map { .byName(name: $0) }, swiftSettings: strict)
}

/// A feature: a folder in Sources/Features, the room that does its work, and what else it uses.
func feature(_ name: String, _ below: String...) -> Target {
    .target(
        name: "\(name)Feature", dependencies: (["Kernel"] + below).map { .byName(name: $0) },
        path: "Sources/Features/\(name)", swiftSettings: strict)
}

func tests(_ name: String, _ below: String...) -> Target {
    .testTarget(name: name, dependencies: below.map { .byName(name: $0) }, swiftSettings: strict)
}

func door(_ name: String, pkgConfig: String, apt: String, brew: String) -> Target {
    .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([apt]), .brew([brew])])
}

let package = Package(
    name: "reeve",
    products: [.executable(name: "reeve", targets: ["reeve"])],
    targets: [
        door("CLibpq", pkgConfig: "libpq", apt: "libpq-dev", brew: "libpq"),
        door("CCurl", pkgConfig: "libcurl", apt: "libcurl4-openssl-dev", brew: "curl"),
        door("CMicrohttpd", pkgConfig: "libmicrohttpd", apt: "libmicrohttpd-dev", brew: "libmicrohttpd"),
        door("COpenSSL", pkgConfig: "libcrypto", apt: "libssl-dev", brew: "openssl"),
        door("CYAML", pkgConfig: "yaml-0.1", apt: "libyaml-dev", brew: "libyaml"),
        door("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev", brew: "zlib"),
        .target(name: "CSystem"),
        room("Telemetry"),
        room("Reporting"),
        room("SQL", "Reporting"),
        room("Processes", "CSystem", "Reporting", "Telemetry"),
        room("Postgres", "CLibpq", "CSystem", "Processes", "Reporting", "SQL", "Telemetry"),
        room("Hashing", "COpenSSL"),
        room("Ledger", "Hashing", "Postgres", "Reporting", "SQL"),
        room("Catalog", "Postgres", "Reporting", "SQL"),
        room("HTTPClient", "CCurl"),
        room("Storage", "Hashing", "HTTPClient", "Processes", "Reporting"),
        room(
            "Backups", "Catalog", "Hashing", "Ledger", "Postgres", "Processes", "Reporting", "SQL", "Storage",
            "Telemetry"),
        room("Migrations", "Catalog", "Hashing", "Ledger", "Postgres", "Reporting", "SQL", "Telemetry"),
        room("Scheduling", "Ledger", "Postgres", "Reporting", "Telemetry"),
        room("AdminHTTP", "CMicrohttpd", "CSystem", "CZlib", "Reporting", "Telemetry"),
        room(
            "Kernel", "CYAML", "Ledger", "Migrations", "Postgres", "Processes", "Reporting", "SQL", "Scheduling",
            "Storage", "Telemetry"),
        room("CommandLine", "Kernel", "Reporting"),
        room("Auditing", "Kernel", "Ledger", "Postgres", "Processes", "Reporting", "Storage", "Telemetry"),
        feature("Migrations", "Ledger", "Migrations", "Postgres", "Reporting", "Telemetry"),
        feature("Schema", "Catalog", "Ledger", "Migrations", "Postgres", "Reporting", "SQL", "Telemetry"),
        feature(
            "Backups", "Auditing", "Backups", "Ledger", "Postgres", "Processes", "Reporting", "SQL", "Storage",
            "Telemetry"),
        feature("Ledger", "Auditing", "Ledger", "Reporting", "Telemetry"),
        feature("Maintenance", "Postgres", "SQL", "Telemetry"),
        feature("Program", "Ledger", "Postgres", "Reporting", "SQL", "Scheduling", "Telemetry"),
        room(
            "ReeveApp", "BackupsFeature", "LedgerFeature", "MaintenanceFeature", "MigrationsFeature", "ProgramFeature",
            "SchemaFeature", "AdminHTTP", "Auditing", "Backups", "Catalog", "CommandLine", "Kernel", "Ledger",
            "Migrations", "Postgres", "Processes", "Reporting", "Scheduling", "Storage", "Telemetry"),
        .executableTarget(name: "reeve", dependencies: ["ReeveApp"], swiftSettings: strict),
        .target(
            name: "TestSupport", dependencies: ["HTTPClient", "Migrations", "Postgres", "Processes"],
            path: "Tests/TestSupport",
            swiftSettings: strict),
        tests("SQLTests", "Reporting", "SQL"),
        tests("PostgresTests", "Postgres", "Processes", "Reporting", "SQL", "Telemetry", "TestSupport"),
        tests("LedgerTests", "Ledger", "Postgres", "TestSupport"),
        tests(
            "BackupsTests", "Backups", "Catalog", "HTTPClient", "Hashing", "Ledger", "Migrations", "Postgres",
            "Processes",
            "SQL", "Storage", "TestSupport"),
        tests("StorageTests", "HTTPClient", "Hashing", "Processes", "Storage", "TestSupport"),
        tests("CatalogTests", "Catalog", "Migrations", "Postgres", "Processes", "SQL", "TestSupport"),
        tests("MigrationsTests", "Migrations", "Catalog", "Ledger", "Postgres", "TestSupport"),
        tests("SystemsTests", "Migrations", "Postgres", "Processes", "TestSupport"),
        tests("TelemetryTests", "Telemetry"),
        tests("ProcessesTests", "Processes"),
        tests("SchedulingTests", "Scheduling", "Ledger", "Postgres", "Telemetry", "TestSupport"),
        tests("AdminHTTPTests", "AdminHTTP", "Processes"),
        tests(
            "ReeveAppTests", "ReeveApp", "AdminHTTP", "Auditing", "Backups", "BackupsFeature", "Catalog", "CommandLine",
            "Kernel", "Ledger", "LedgerFeature", "MaintenanceFeature", "Migrations", "MigrationsFeature", "Postgres",
            "Processes", "ProgramFeature", "Reporting", "SQL", "Scheduling", "Storage", "Telemetry", "TestSupport",
            "reeve"),
    ]
)
