"""Every table, in one place for Alembic and for readers."""

import identity.alarms.models
import identity.apps.models
import identity.audit.buffered
import identity.audit.models
import identity.audit.models_evidence
import identity.cas.models
import identity.core.facts
import identity.core.lease
import identity.core.once
import identity.directory.models
import identity.events.models
import identity.forward.models
import identity.keys.models
import identity.login.models
import identity.oauth.models
import identity.people.models
import identity.reports.models
import identity.roles.models
import identity.roles.models_drafts
import identity.saml.models
import identity.shipping.models
import identity.sync.models  # noqa: F401
from identity.core.db import Base

metadata = Base.metadata
