import CSystem
import Foundation

/// A flag that `poll(2)` can wait for: raised from any thread, lowered by the one that waits.
public final class WakeUp: Sendable {
    /// Readable while the flag is raised.
    public let descriptor: Int32

    /// - Throws: `POSIXError` when no descriptor is to be had.
    public init() throws {
        descriptor = csystem_eventfd()
        if descriptor < 0 { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EMFILE) }
    }

    deinit { close(descriptor) }

    public func raise() { csystem_eventfd_signal(descriptor) }

    public func lower() { csystem_eventfd_drain(descriptor) }
}
