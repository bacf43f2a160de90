// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
]

/// A module: its name, and the modules that it may import.
func module(_ name: String, _ below: String...) -> Target {
    .target(name: name, dependencies: below.map { .byName(name: $0) }, swiftSettings: strict)
}

/// A feature: a folder in Sources/Features, and the modules that it may import in addition to Kernel.
func feature(_ name: String, _ below: String...) -> Target {
    .target(
        name: "\(name)Feature", dependencies: (["Kernel"] + below).map { .byName(name: $0) },
        path: "Sources/Features/\(name)", swiftSettings: strict)
}

func tests(_ name: String, _ below: String...) -> Target {
    .testTarget(name: name, dependencies: below.map { .byName(name: $0) }, swiftSettings: strict)
}

/// A binding of a C library.
func library(_ name: String, pkgConfig: String, apt: String, brew: String) -> Target {
    .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([apt]), .brew([brew])])
}

let package = Package(
    name: "reeve",
    products: [.executable(name: "reeve", targets: ["reeve"])],
    targets: [
        library("CLibpq", pkgConfig: "libpq", apt: "libpq-dev", brew: "libpq"),
        library("CCurl", pkgConfig: "libcurl", apt: "libcurl4-openssl-dev", brew: "curl"),
        library("CMicrohttpd", pkgConfig: "libmicrohttpd", apt: "libmicrohttpd-dev", brew: "libmicrohttpd"),
        library("COpenSSL", pkgConfig: "libcrypto", apt: "libssl-dev", brew: "openssl"),
        library("CYAML", pkgConfig: "yaml-0.1", apt: "libyaml-dev", brew: "libyaml"),
        library("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev", brew: "zlib"),
        .target(name: "CSystem"),
        module("Telemetry"),
        module("Reporting"),
        module("SQL", "Reporting"),
        module("Processes", "CSystem", "Reporting", "Telemetry"),
        module("Postgres", "CLibpq", "CSystem", "Processes", "Reporting", "SQL", "Telemetry"),
        module("Hashing", "COpenSSL"),
        module("Ledger", "Hashing", "Postgres", "Reporting", "SQL"),
        module("Catalog", "Hashing", "Postgres", "Reporting", "SQL"),
        module("HTTPClient", "CCurl"),
        module("Storage", "Hashing", "HTTPClient", "Processes", "Reporting"),
        module(
            "Backups", "Catalog", "Hashing", "Ledger", "Postgres", "Processes", "Reporting", "SQL", "Storage",
            "Telemetry"),
        module("Migrations", "Catalog", "Hashing", "Ledger", "Postgres", "Reporting", "SQL", "Telemetry"),
        module("Scheduling", "Ledger", "Postgres", "Reporting", "Telemetry"),
        module("AdminHTTP", "CMicrohttpd", "CSystem", "CZlib", "Reporting", "Telemetry"),
        module(
            "Kernel", "CYAML", "Ledger", "Migrations", "Postgres", "Processes", "Reporting", "SQL", "Scheduling",
            "Storage", "Telemetry"),
        module("CommandLine", "Kernel", "Reporting"),
        module(
            "Auditing", "CSystem", "Hashing", "Kernel", "Ledger", "Postgres", "Processes", "Reporting", "Storage",
            "Telemetry"),
        feature("Migrations", "Ledger", "Migrations", "Postgres", "Reporting", "Telemetry"),
        feature("Schema", "Catalog", "Ledger", "Migrations", "Postgres", "Reporting", "SQL", "Telemetry"),
        feature(
            "Backups", "Auditing", "Backups", "Ledger", "Migrations", "Postgres", "Processes", "Reporting", "SQL",
            "Storage", "Telemetry"),
        feature("Ledger", "Auditing", "Ledger", "Reporting", "Telemetry"),
        feature("Maintenance", "Catalog", "Migrations", "Postgres", "Processes", "Reporting", "SQL", "Telemetry"),
        feature("Monitoring", "Postgres", "Reporting", "SQL"),
        feature("Program", "Ledger", "Postgres", "Reporting", "SQL", "Scheduling", "Telemetry"),
        module(
            "ReeveApp", "BackupsFeature", "LedgerFeature", "MaintenanceFeature", "MigrationsFeature",
            "MonitoringFeature", "ProgramFeature", "SchemaFeature", "AdminHTTP", "CommandLine", "Kernel", "Ledger",
            "Postgres", "Processes", "Reporting", "Scheduling", "Telemetry"),
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
            "Processes", "SQL", "Storage", "TestSupport"),
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
            "Hashing", "Kernel", "Ledger", "LedgerFeature", "MaintenanceFeature", "Migrations", "MigrationsFeature",
            "MonitoringFeature", "Postgres", "Processes", "ProgramFeature", "Reporting", "SQL", "Scheduling", "Storage",
            "Telemetry", "TestSupport", "reeve"),
    ]
)
