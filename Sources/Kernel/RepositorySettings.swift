import Foundation
import Storage

/// The settings of the backup repositories.
public enum RepositorySettings {
    public static let repository = Setting<[RepositoryAddress]>(
        list: "backup.repository", .repository,
        "Where backups are stored: folders (a path or file:///PATH, best on a disk of another machine), and "
            + "s3://BUCKET/PREFIX?endpoint=URL. Each backup is stored in all of them. Without a repository, no backups "
            + "are made.")
    public static let callLimit = Setting(
        "backup.call_limit", .limit, default: "2min",
        "How long one call to a repository may take, for example a listing, a removal or the transfer of a manifest.")
    public static let stallLimit = Setting(
        "backup.stall_limit", .limit, default: "5min",
        "How long the transfer of a part may make no progress. After this time, the repository is left out.")
    public static let hungCalls = Setting(
        "backup.hung_calls", .integer(1...1000), default: "4",
        "How many calls to a repository may hang. If so many hang, further calls fail immediately.")

    public static let keys = [repository.key, callLimit.key, stallLimit.key, hungCalls.key]

    /// Returns the configured limits for calls to a repository.
    public static func limits(_ configuration: Configuration) -> BoundedStore.Limits {
        var limits = BoundedStore.Limits()
        limits.call = configuration[callLimit]
        limits.stall = configuration[stallLimit]
        limits.hung = configuration[hungCalls]
        return limits
    }

    /// Returns the configured repositories, in their order; none if none is configured. A store without credentials
    /// fails only when it is used, so that the other stores continue to work.
    public static func stores(_ configuration: Configuration) -> [BoundedStore] {
        let (limits, origin) = (limits(configuration), configuration.origin(repository))
        let surroundings = RepositoryAddress.Surroundings(environment: configuration.environment) {
            configuration.resolve($0, from: origin)
        }
        return configuration[repository].map { BoundedStore($0.store(surroundings), limits: limits) }
    }
}

extension ValueSyntax where Value == RepositoryAddress {
    static var repository: Self {
        Self { (text) throws(InvalidValue) in
            do throws(StorageError) {
                return try RepositoryAddress(text)
            } catch {
                throw InvalidValue(error.description, hint: error.hint)
            }
        }
    }
}
