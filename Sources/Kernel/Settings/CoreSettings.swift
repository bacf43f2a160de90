import Foundation
import Telemetry

/// The settings of the program itself: databases, connections, state folder and log.
public enum CoreSettings {
    static let state = Setting<String?>(
        "state", .path,
        "Folder for the embedded PostgreSQL and other state. By default /var/lib/reeve for root, otherwise "
            + "$XDG_STATE_HOME/reeve.")
    static let systems = Setting<[String]>(
        list: "systems", .text,
        "The systems of every database for which no systems are configured. On the embedded PostgreSQL, the default is "
            + "the five shipped systems.")
    static let schema = Setting<String?>(
        "schemas.*", .text,
        "The PostgreSQL schema of a system, if it differs from the schema in its system.yaml. May be `public`.")
    public static let trustedRoles = Setting<[String]>(
        list: "trusted_roles", .text,
        "Roles whose functions and expressions Reeve may run with the rights of its own role. Large tables of other roles "
            + "are backed up as a whole, and not in slices.")
    public static let migrationLockWait = Setting(
        "migrate.lock_wait", .duration(), default: "60s", "How long to wait until another run of migrations has ended.")
    static let poolSize = Setting(
        "pool.size", .integer(1...1000), default: "10", "Connections that are kept open. Also DATABASE_POOL_SIZE.")
    static let poolOverflow = Setting(
        "pool.max_overflow", .integer(0...1000), default: "20",
        "Connections that may be opened in addition to pool.size while all are in use. Also DATABASE_MAX_OVERFLOW.")
    static let poolWait = Setting("pool.wait", .duration(), default: "30s", "How long to wait for a free connection.")
    static let connectTimeout = Setting(
        "connect_timeout", .limit, default: "10s",
        "How long connecting may take; more than 0s. A connect_timeout in the connection string takes precedence; in "
            + "the connection string, 0 means no limit, as in libpq.")
    public static let logLevel = Setting<LogLevel>(
        "log.level", .choice, default: "info", "The lowest level that is logged.")
    static let logFormat = Setting<LogFormat>(
        "log.format", .choice, default: "auto", "With `auto`, text on a terminal, and JSON otherwise.")
    public static let drain = Setting(
        "drain", .duration(), default: "30s",
        "How long running work may take to finish after SIGTERM, SIGINT or SIGHUP.")

    enum LogFormat: String, CaseIterable, Sendable {
        case auto, text, json
    }

    public static let keys: [SettingKey] =
        [state.key] + DatabaseSettings.one.keys + DatabaseSettings.several.keys
        + [
            systems.key, schema.key, trustedRoles.key, migrationLockWait.key, poolSize.key, poolOverflow.key,
            poolWait.key, connectTimeout.key,
            logLevel.key, logFormat.key, drain.key,
        ]
}

/// The settings of one database, below `database` or `databases.NAME`.
struct DatabaseSettings: Sendable {
    static let one = DatabaseSettings(
        "database",
        url: "The database, if there is only one, as a libpq connection string. Short form: "
            + "`database: URL`.")
    static let several = DatabaseSettings("databases.*", url: "One of several databases, as a libpq connection string.")

    let url: Setting<String?>
    let directURL: Setting<String?>
    let systems: Setting<[String]>
    let options: Setting<[String]>

    private init(_ prefix: String, url summary: String) {
        func describe(_ text: String, _ key: String) -> String { prefix == "database" ? text : "As database.\(key)." }
        url = Setting("\(prefix).url", .connectionString, summary)
        directURL = Setting(
            "\(prefix).direct_url", .connectionString,
            describe(
                "The address of the server itself, if `url` is the address of a pooler. Locks, LISTEN and migrations "
                    + "require a direct connection.",
                "direct_url"))
        systems = Setting(
            list: "\(prefix).systems", .text,
            describe("The systems of this database: names of shipped systems, or folders.", "systems"))
        options = Setting(
            list: "\(prefix).options", .text, describe("Opt-in migrations to apply, as system/option.", "options"))
    }

    var keys: [SettingKey] { [url.key, directURL.key, systems.key, options.key] }
}
