import Foundation
import Postgres
import Testing

/// Something that some builds of PostgreSQL lack. Tests that need it are skipped with such a server. `scripts/test`
/// lists and counts what was skipped.
public enum ServerFeature: Sendable, Hashable, CustomStringConvertible {
    case icu
    case libxml
    /// The files of an extension.
    case `extension`(String)

    public var description: String {
        switch self {
        case .icu: "ICU"
        case .libxml: "libxml"
        case .extension(let name): "the extension \(name)"
        }
    }

    /// Whether the server of the tests has it.
    public var isThere: Bool {
        get async throws {
            try await Connection.opened(await TestCluster.shared.settings(database: "postgres")) { connection in
                switch self {
                case .icu:
                    // Without ICU, pg_collation may have rows of that provider all the same.
                    (try? await connection.with {
                        try $0.execute("CREATE COLLATION pg_temp.german (provider = icu, locale = 'de-DE')")
                    }) != nil
                case .libxml:
                    (try? await connection.value("SELECT xml_is_well_formed('<a/>')")) ?? false
                case .extension(let name):
                    try await connection.value(
                        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = $1)", [name])
                }
            }
        }
    }

    /// Whether the server of the tests has it. If not, reports that a part of a test is skipped.
    public func isThere(for part: String) async throws -> Bool {
        if try await isThere { return true }
        print("skipped: \(part): the server lacks \(self)")
        return false
    }
}

extension Trait where Self == ConditionTrait {
    /// Skips a test if the server of the tests lacks a feature.
    public static func server(has feature: ServerFeature) -> Self {
        .enabled("the server lacks \(feature)") { try await feature.isThere }
    }
}
