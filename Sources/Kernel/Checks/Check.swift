import Postgres
import Reporting

/// Something that `reeve doctor` looks at, for one database.
public struct Check: Sendable {
    /// What a check of one database works with.
    public struct Call: Sendable {
        public let database: DatabaseConfiguration
        public let estate: Estate
        /// The database, where it can be opened.
        public let open: OpenDatabase?
        /// The server's version, as `server_version_num`; nil where it does not answer.
        public let serverVersion: Int?
        /// The age identities that are given, besides the configured one.
        public let identities: [String]

        public init(
            database: DatabaseConfiguration, estate: Estate, open: OpenDatabase?, serverVersion: Int?,
            identities: [String]
        ) {
            self.database = database
            self.estate = estate
            self.open = open
            self.serverVersion = serverVersion
            self.identities = identities
        }
    }

    /// What `--only` names it by.
    public let name: String
    /// One line that says what it looks at.
    public let summary: String
    /// How long it may take.
    public let limit: Duration
    /// Looks, and changes nothing. What it throws is itself a finding.
    public let run: @Sendable (Call) async throws -> [Finding]

    public init(
        _ name: String, _ summary: String, limit: Duration = .seconds(60),
        run: @escaping @Sendable (Call) async throws -> [Finding]
    ) {
        self.name = name
        self.summary = summary
        self.limit = limit
        self.run = run
    }
}

extension Finding {
    /// As `reeve doctor --json` gives it.
    public var json: JSONValue {
        [
            "check": .string(subject), "severity": .string(severity.rawValue), "evidence": .string(evidence),
            "mend": .string(mend),
        ]
    }
}
